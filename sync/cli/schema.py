"""Commands about the schema: bring it up to date, build it anew from the events."""

import asyncio
from functools import partial

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from sync.cli.command import Failed, command, console
from sync.migrate import migrate as apply_migrations
from sync.rebuild.rebuild import count_events, print_rebuilt
from sync.rebuild.rebuild import rebuild as rebuild_inbox
from sync.settings import Settings
from sync.stack import (
    direct_database,
    existing_database,
    pending_migrations,
)


@command
@click.option("--check", is_flag=True, help="Change nothing: name what is pending; exit code 1 if anything is.")
def migrate(settings: Settings, check: bool) -> None:
    """Bring the database to this version's schema.

    Works on the database of DATABASE_URL: a Supabase project, or a plain Postgres (as its superuser, the first
    time). The Supabase CLI sees what was applied, and the other way round.

    A migration that fails leaves the database as it was before it, and the error names the statement. Through
    SUPABASE_URL nothing can be migrated, only checked.
    """
    if check:
        with existing_database(settings) as address:
            _print_pending(asyncio.run(pending_migrations(address)))
        return
    with direct_database(settings) as dsn:
        applied = asyncio.run(apply_migrations(dsn))
    for name in applied.migrations:
        console.print(f"applied {name}")
    if not applied.migrations:
        console.print("Nothing to apply: the schema is current.")


def _print_pending(titles: list[str]) -> None:
    for title in titles:
        click.echo(f"pending {title}")
    if titles:
        raise Failed("The schema is not current. `mirror migrate` applies what is pending.")
    click.echo("Nothing is pending: the schema is current.")


@command
@click.option("--into", "schema", required=True, metavar="SCHEMA", help="The schema to make, such as rebuilt.")
@click.option("--replace", is_flag=True, help="Remove the schema of an earlier rebuild first.")
@click.option("--drop", is_flag=True, help="Remove the schema afterwards.")
@click.option("--json", "as_json", is_flag=True, help="For programs; names every difference.")
def rebuild(settings: Settings, schema: str, replace: bool, drop: bool, as_json: bool) -> None:
    """Apply the stored inbox from nothing, beside the live tables, and compare the two.

    Exit code 1 if they differ. What no stored event brought (backfill, pruned events) is counted by itself. The live
    tables are only read. Makes tables, so it takes DATABASE_URL. The schema holds customers' data: nobody but its
    owner may look into it, and --drop removes it.
    """
    with direct_database(settings) as dsn:
        total = asyncio.run(count_events(dsn))
        with Progress(*Progress.get_default_columns(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("events", total=total)
            step = partial(bar.advance, task)
            rebuilt = asyncio.run(rebuild_inbox(dsn, schema, replace=replace, drop=drop, progress=step))
    if as_json:
        click.echo(msgspec.json.encode(rebuilt))
    else:
        print_rebuilt(console, rebuilt)
    if not rebuilt.is_equal:
        raise Failed("The tables do not hold what the stored events say.")
