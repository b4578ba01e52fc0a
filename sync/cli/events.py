"""Commands that look after events."""

import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import click
import msgspec

from sync import events
from sync.arguments import MOMENT
from sync.cli.command import Failed, ask, command, console, main
from sync.events import Choice, Outcome
from sync.settings import Settings


@main.group(name="events")
def events_group() -> None:
    """Look after events: list, show, retry, skip.

    What could not be applied is kept, with its reason, as a dead event. `list --state dead` names them; once the
    cause is repaired, `retry` has them applied as if they had just come: an older state never replaces a newer one.
    """


def narrowed(reason: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that choose events, as a Choice; `reason` is the name of the one for reasons."""
    options = (
        click.option(
            "--state", type=click.Choice(["pending", "applied", "skipped", "dead"]), help="Only of this state."
        ),
        click.option("--type", metavar="TYPE", help="Only of this type, as in order.changed."),
        click.option("--entity", metavar="ID", help="Only about this entity: the engine's id of it."),
        click.option("--integration", metavar="SLUG", help="Only of this integration."),
        click.option("--since", type=MOMENT, help="Only what arrived then (UTC) or later."),
        click.option("--request", metavar="ID", help="Only what this request brought: the X-Request-ID of its answer."),
        click.option(reason, "reason", metavar="TEXT", help="Only with these words in their reason."),
    )

    def give(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(settings: Settings, **arguments: Any) -> None:
            fields = {name: arguments.pop(name) for name in Choice.__struct_fields__ if name in arguments}
            fields["events"] = fields.get("events") or None
            function(settings, choice=Choice(**fields), **arguments)

        for option in reversed(options):
            run = option(run)
        return run

    return give


@partial(command, group=events_group)
@narrowed("--reason")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, the newest.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def events_list(settings: Settings, choice: Choice, limit: int, as_json: bool) -> None:
    """List events, the newest first, without their payloads."""
    found = ask(settings, lambda database: events.find(database, choice, limit=limit))
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        events.print_events(console, found)


@partial(command, group=events_group)
@click.argument("event")
@click.option("--integration", metavar="SLUG", help="Of this integration, where several have an event of this id.")
def events_show(settings: Settings, event: str, integration: str | None) -> None:
    """Show an event: what became of it, why, its payload, and how to replay it.

    The payload is a customer's data.
    """
    found = ask(settings, lambda database: events.read(database, event, integration))
    for one in found:
        events.print_event(console, one)
    if not found:
        raise Failed(f"There is no event {event}. `mirror events list` names those there are.")


@partial(command, group=events_group)
@click.argument("events", nargs=-1)
@narrowed("--reason")
@click.option("--all", "everything", is_flag=True, help="All dead ones, or of another --state.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def events_retry(settings: Settings, choice: Choice, everything: bool, yes: bool) -> None:
    """Have events applied again, with a fresh count of attempts.

    EVENTS are ids, as `mirror events list` shows them. Without ids: what the options choose, of the dead ones
    unless --state says otherwise. What a daemon has in hand is left alone and named.
    """
    choice = _confirmed(settings, choice, "Retry", everything=everything, yes=yes)
    _finish(ask(settings, lambda database: events.retry(database, choice)), "Retried")


@partial(command, group=events_group)
@click.argument("events", nargs=-1)
@click.option("--reason", "why", required=True, metavar="TEXT", help="Why: it is kept with the event.")
@narrowed("--dead-because")
@click.option("--all", "everything", is_flag=True, help="All dead ones, or of another --state.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def events_skip(settings: Settings, choice: Choice, why: str, everything: bool, yes: bool) -> None:
    """Leave pending or dead events out, for a reason.

    EVENTS are ids, as `mirror events list` shows them. Without ids: what the options choose, of the dead ones
    unless --state says otherwise. `mirror events retry` takes it back.
    """
    choice = _confirmed(settings, choice, "Skip", everything=everything, yes=yes)
    _finish(ask(settings, lambda database: events.skip(database, choice, why)), "Skipped")


def _confirmed(settings: Settings, choice: Choice, verb: str, *, everything: bool, yes: bool) -> Choice:
    """Return what is to be changed, once somebody has seen how much that is and agreed."""
    if choice.is_anything and not everything:
        raise click.UsageError("Name events by their ids, narrow the choice by an option, or say --all.")
    if choice.state is None and not choice.events:
        choice = msgspec.structs.replace(choice, state="dead")
    if not (yes or choice.events):
        number = ask(settings, lambda database: events.count(database, choice))
        if number == 0:
            click.echo("There is no such event.")
            sys.exit(0)
        click.confirm(f"{verb} {number:,} {choice.state} events?", abort=True)
    return choice


def _finish(outcome: Outcome, verb: str) -> None:
    events.print_outcome(console, outcome, verb)
    if outcome.unknown:
        raise Failed("Some of the ids are unknown: `mirror events list` names those there are.")
