"""The command that tells of an order's money."""

import click

from sync.cli.command import Failed, ask, command, console
from sync.money import parse, print_money, read_money
from sync.settings import Settings


@command
@click.argument("code")
@click.option("--store", metavar="SLUG", help="Of this store, where several have an order of this code.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def money(settings: Settings, code: str, store: str | None, as_json: bool) -> None:
    """Tell what was ordered, paid, refunded and invoiced of the order with this CODE.

    And whether shop, payment provider and invoices agree: exit code 0 only if they do. An order that is not paid yet
    may well agree.
    """
    answer = ask(settings, lambda database: read_money(database, code, store))
    found = parse(answer)
    if as_json:
        click.echo(answer)
    elif not found:
        raise Failed(f"There is no order {code}. `mirror why {code}` tells whether an event of it waits or is dead.")
    else:
        for one in found:
            print_money(console, one)
    if not found or any(one.disagreements for one in found):
        raise click.exceptions.Exit(1)
