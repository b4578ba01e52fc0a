"""Commands that prove the mirror complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import click
import msgspec

from sync import interrupts
from sync.arguments import DURATION, MOMENT, PERCENT
from sync.backfill import Backfilled
from sync.backfill import backfill as run_backfill
from sync.cli.command import Failed, ask, command, console, sentence
from sync.database import connect
from sync.errors import Reject, Retry
from sync.garbage import spare_what_is_loaded
from sync.progress import Bar, print_backfilled, print_reconciled
from sync.reconcile import Reconciled
from sync.reconcile import reconcile as run_reconcile
from sync.records import ENTITIES, Entity
from sync.settings import Address, Settings
from sync.sources import open_source
from sync.stack import (
    existing_database,
)
from sync.why import print_story, tell

ENDINGS = {
    "drifted": "The mirror does not equal the engine. `mirror reconcile --fix` heals it.",
    "incomplete": "The engine could not be compared to its end: see above.",
    "refused": "Too much is gone at once to be believed. If it is right, say so with --allow-gone.",
}
"""What to do about a reconcile, by what it came to."""

BACKFILL_KEPT = "What was read is kept: the same command goes on from there."
RECONCILE_KEPT = "What was healed stays so: the same command begins anew."


@command
@click.argument("integration")
@click.option("--since", type=MOMENT, help="Only what was placed, registered, made or touched since then (UTC).")
@click.option("--entity", type=click.Choice(ENTITIES), help="Only this kind of what the engine has.")
@click.option("--restart", is_flag=True, help="Begin anew, instead of going on where the last one was.")
def backfill(
    settings: Settings, integration: str, since: datetime | None, entity: Entity | None, restart: bool
) -> None:
    """Read all that an engine has into the tables, and prove it.

    INTEGRATION is its slug, as in `mirror backfill vendure`. Safe beside live hooks: a newer hook always wins. Ended
    by Ctrl-C or otherwise, the same command goes on where it was, for a day; after that it begins anew, and fetches
    only what differs. Exit code 0 only if every receipt agrees with what
    the engine counts; otherwise it says what differs, and why.
    """

    async def fill(address: Address) -> Backfilled:
        connections = settings.database_connections
        async with connect(address, connections=connections) as database, open_source(database, integration) as source:
            with Bar(console) as bar:
                return await run_backfill(
                    database, source, entities=(entity,) if entity else None, since=since, restart=restart,
                    progress=bar, waits=bar.waits,
                )  # fmt: skip

    with existing_database(settings) as address, _cut_off(BACKFILL_KEPT):
        spare_what_is_loaded()
        filled = interrupts.run(fill(address))
    print_backfilled(console, filled)
    if filled.ending.state != "complete":
        raise Failed("The backfill is not complete. The same command goes on from the first slice that is not.")


@command
@click.argument("integration")
@click.option("--fix", is_flag=True, help="Heal what differs; otherwise only look.")
@click.option(
    "--window", type=DURATION, help="Only what was placed, registered, made or touched in the last 7d, 12h, …"
)
@click.option("--entity", type=click.Choice(ENTITIES), help="Only this kind of what the engine has.")
@click.option(
    "--allow-gone", type=PERCENT, help="Believe the engine that up to so many percent are gone, as in 40%; with --fix."
)
def reconcile(  # noqa: PLR0913 - as many as there are options
    settings: Settings,
    integration: str,
    *,
    fix: bool,
    window: timedelta | None,
    entity: Entity | None,
    allow_gone: float | None,
) -> None:
    """Compare the tables with the engine: what is missing, stale or gone, and how it came about.

    Changes nothing without --fix, and exits with 1 if anything differs. With --fix it reads what differs anew and marks
    deleted what the engine no longer has, unless that is too much at once (max_gone_share in mirror.integrations);
    exit code 0 only if the mirror equals the engine then. The daemon does so by itself on a schedule.
    """

    async def compare(address: Address) -> Reconciled:
        connections = settings.database_connections
        async with connect(address, connections=connections) as database, open_source(database, integration) as source:
            with Bar(console) as bar:
                return await run_reconcile(
                    database, source, fix=fix, entities=(entity,) if entity else None,
                    since=datetime.now(UTC) - window if window else None, allow_gone=allow_gone,
                    progress=bar, waits=bar.waits,
                )  # fmt: skip

    with existing_database(settings) as address, _cut_off(RECONCILE_KEPT):
        spare_what_is_loaded()
        reconciled = interrupts.run(compare(address))
    print_reconciled(console, reconciled, fix=fix)
    if reconciled.ending.state != "complete":
        raise Failed(ENDINGS[reconciled.ending.state])


@contextmanager
def _cut_off(going_on: str) -> Iterator[None]:
    """Say of what ended a run early how to go on: the engine may be the cause, and not the database."""
    try:
        yield
    except Retry as error:
        raise Failed(f"{sentence(error.reason)} {going_on}") from None
    except Reject as error:
        raise Failed(sentence(error.reason)) from None
    except KeyboardInterrupt:
        console.print(f"Stopped. {going_on}")
        raise


@command
@click.argument("code")
@click.option("--store", metavar="SLUG", help="Of this store, where several have an order of this code.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(settings: Settings, code: str, store: str | None, as_json: bool) -> None:
    """Tell the story of the order with this CODE.

    In the order of time: each event, poll, person, batch or command that had to do with it or its customer, what
    became of that, and which events were ignored as older.
    """
    moments = ask(settings, lambda database: tell(database, code, store))
    if as_json:
        click.echo(msgspec.json.encode(moments))
    elif moments:
        print_story(console, moments)
    else:
        raise Failed(f"Nothing is known of an order {code}: it is not here, and no event of it waits or is dead.")
