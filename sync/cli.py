"""The command `mirror`: parses arguments, calls, prints, and turns errors into exit codes.

Exit codes: 0 done; 1 it failed, and standard error says why; 2 wrong usage or settings; 130 interrupted.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from sync import embedded, events, interrupts
from sync.arguments import DURATION, MOMENT, PERCENT
from sync.backfill import Backfilled
from sync.backfill import backfill as run_backfill
from sync.daemon import work as run_daemon
from sync.database import Database, connect
from sync.demo import DemoError, run_demo
from sync.embedded import EmbeddedPostgresError
from sync.errors import Reject, Retry
from sync.events import Choice, Outcome
from sync.logs import configure_logs
from sync.migrate import MigrationError
from sync.migrate import migrate as apply_migrations
from sync.processes import stop_with_parent
from sync.progress import Bar, print_backfilled, print_reconciled
from sync.rebuild.rebuild import count_events, print_rebuilt
from sync.rebuild.rebuild import rebuild as rebuild_inbox
from sync.rebuild.schema import RebuildError
from sync.reconcile import Reconciled
from sync.reconcile import reconcile as run_reconcile
from sync.records import Entity
from sync.replay import ReplayError
from sync.report import print_status
from sync.runs import ENTITIES
from sync.settings import Address, Settings, SettingsError, load_settings
from sync.sources import open_source
from sync.stack import (
    NO_DATABASE,
    StackError,
    direct_database,
    existing_database,
    make_secret,
    open_ground,
    pending_migrations,
    running,
)
from sync.status import Status
from sync.storm.faults import LEVELS
from sync.storm.report import print_verdict
from sync.storm.storm import StormError, Weather, run_storm
from sync.token_keys import make_token_key
from sync.why import print_story, tell

FAILURES = (
    DemoError,
    EmbeddedPostgresError,
    MigrationError,
    RebuildError,
    ReplayError,
    StackError,
    StormError,
    OSError,
)

ENDINGS = {
    "drifted": "The mirror does not equal the engine. `mirror reconcile --fix` heals it.",
    "incomplete": "The engine could not be compared to its end: see above.",
    "refused": "Too much is gone at once to be believed. If it is right, say so with --allow-gone.",
}
"""What to do about a reconcile, by what it came to."""

BACKFILL_KEPT = "What was read is kept: the same command goes on from there."
RECONCILE_KEPT = "What was healed stays so: the same command begins anew."

Answer = TypeVar("Answer")

console = Console()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="commerce-mirror")
def main() -> None:
    """Keep a faithful copy of an online shop's customers and orders in a Supabase project.

    Start with `mirror demo`. Settings come from the environment: README.md lists them.
    """
    configure_logs()


def command(function: Callable[..., None], *, group: click.Group = main) -> Callable[..., None]:
    """Give a function the settings, and print what is expected to go wrong instead of a traceback."""

    @group.command(name=function.__name__.removeprefix(f"{group.name}_").replace("_", "-"))
    @wraps(function)
    def run(**arguments: Any) -> None:
        try:
            settings = load_settings()
            function(settings, **arguments)
        except SettingsError as error:
            raise _WrongSettings(str(error)) from None
        except Retry as error:
            raise _Failed(f"{error.reason}. Check {settings.database_variables}, and that the server is up.") from None
        except Reject as error:
            raise _Failed(f"{error.reason}. Is the database migrated? `mirror migrate` does it.") from None
        except FAILURES as error:
            raise _Failed(str(error) or type(error).__name__) from None
        except KeyboardInterrupt:
            sys.exit(130)

    return run


class _Failed(click.ClickException):
    exit_code = 1


class _WrongSettings(click.ClickException):
    exit_code = 2


@command
@click.option("--exit", "exits", is_flag=True, help="End by itself; exit code 0 only if the mirror equals the engine.")
def demo(settings: Settings, exits: bool) -> None:
    """Watch recorded hooks of a real Vendure shop become rows.

    Starts an embedded Postgres, the API and the daemon, posts the hooks over HTTP and compares the tables with
    what the shop's Admin API said. Stays up until Ctrl-C.
    """
    interrupts.treat_sigterm_as_interrupt()
    is_equal = False
    try:
        is_equal = run_demo(settings, console, stay=not exits)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(130 if exits else 0)
    if not is_equal:
        raise _Failed("The mirror does not equal the engine: see the differences above.")


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
        raise _Failed("The schema is not current. `mirror migrate` applies what is pending.")
    click.echo("Nothing is pending: the schema is current.")


@command
def serve(settings: Settings) -> None:
    """Run the API: receives hooks, answers "where is my order?"."""
    _configured(settings)
    os.execv(sys.executable, [sys.executable, "-m", "api"])  # noqa: S606 - no shell wanted


@command
def work(settings: Settings) -> None:
    """Run the daemon: applies the inbox to the tables. Several may run at once."""
    stop_with_parent()
    asyncio.run(run_daemon(_configured(settings), settings))


@command
def up(settings: Settings) -> None:
    """Run API and daemon together, until Ctrl-C.

    Migrates the database first; one that is reached through SUPABASE_URL must be current already. Without either
    it starts an embedded Postgres in .mirror/ (MIRROR_HOME), and makes a hook secret there.
    """
    interrupts.treat_sigterm_as_interrupt()
    port = settings.port or embedded.free_port()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{port}"

    async def stay() -> None:
        async with running(address, {**ground.environment, "MIRROR_PORT": str(port)}):
            console.print(f"The mirror is up: hooks go to [bold]{address}/hooks/vendure[/]. Ctrl-C ends it.")
            await asyncio.Event().wait()

    if settings.database_url and settings.project:
        console.print("DATABASE_URL is set, so SUPABASE_URL is not used.")
    with open_ground(settings) as ground:
        if ground.psql:
            console.print(
                f"No DATABASE_URL: an embedded Postgres runs in {settings.home}. {ground.psql}", soft_wrap=True
            )
        if ground.secret:
            console.print(f"The hook secret for the shop's plugin: {ground.secret}", soft_wrap=True)
        try:
            interrupts.run(stay())
        except KeyboardInterrupt:
            console.print("Stopped.")


@command
@click.argument("integration")
@click.option("--since", type=MOMENT, help="Only what was placed, registered or touched since then (UTC).")
@click.option("--entity", type=click.Choice(ENTITIES), help="Only customers, or only orders.")
@click.option("--restart", is_flag=True, help="Begin anew, instead of going on where the last one was.")
def backfill(
    settings: Settings, integration: str, since: datetime | None, entity: Entity | None, restart: bool
) -> None:
    """Read all customers and orders of an engine into the tables, and prove it.

    INTEGRATION is its slug, as in `mirror backfill vendure`. Safe beside live hooks: a newer hook always wins. Ended
    by Ctrl-C or otherwise, the same command goes on where it was. Exit code 0 only if every receipt agrees with what
    the engine counts; otherwise it says what differs, and why.
    """

    async def fill(address: Address) -> Backfilled:
        connections = settings.database_connections
        async with connect(address, connections=connections) as database, open_source(database, integration) as source:
            with Bar(console) as bar:
                return await run_backfill(
                    database, source, entities=(entity,) if entity else ENTITIES, since=_utc(since), restart=restart,
                    progress=bar, waits=bar.waits,
                )  # fmt: skip

    with existing_database(settings) as address, _cut_off(BACKFILL_KEPT):
        filled = interrupts.run(fill(address))
    print_backfilled(console, filled)
    if filled.ending.state != "complete":
        raise _Failed("The backfill is not complete. The same command goes on from the first slice that is not.")


@command
@click.argument("integration")
@click.option("--fix", is_flag=True, help="Heal what differs; otherwise only look.")
@click.option("--window", type=DURATION, help="Only what was placed, registered or touched in the last 7d, 12h, …")
@click.option("--entity", type=click.Choice(ENTITIES), help="Only customers, or only orders.")
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
                    database, source, fix=fix, entities=(entity,) if entity else ENTITIES,
                    since=datetime.now(UTC) - window if window else None, allow_gone=allow_gone,
                    progress=bar, waits=bar.waits,
                )  # fmt: skip

    with existing_database(settings) as address, _cut_off(RECONCILE_KEPT):
        reconciled = interrupts.run(compare(address))
    print_reconciled(console, reconciled, fix=fix)
    if reconciled.ending.state != "complete":
        raise _Failed(ENDINGS[reconciled.ending.state])


@contextmanager
def _cut_off(going_on: str) -> Iterator[None]:
    """Say of what ended a run early how to go on: the engine may be the cause, and not the database."""
    try:
        yield
    except Retry as error:
        raise _Failed(f"{_sentence(error.reason)} {going_on}") from None
    except Reject as error:
        raise _Failed(_sentence(error.reason)) from None
    except KeyboardInterrupt:
        console.print(f"Stopped. {going_on}")
        raise


def _sentence(reason: str) -> str:
    return reason if reason.endswith((".", "?", "!")) else f"{reason}."


def _utc(moment: datetime | None) -> datetime | None:
    return moment and (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


@command
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(settings: Settings, as_json: bool) -> None:
    """Show alarms, the inbox by state, the lag, dead letters, the last runs and their drift, and rows per table."""
    answer: str = _ask(settings, lambda database: database.call("get_status"))
    if as_json:
        click.echo(answer)
    else:
        print_status(console, msgspec.json.decode(answer, type=Status))


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
        click.option("--since", type=click.DateTime(), help="Only what arrived then (UTC) or later."),
        click.option(reason, "reason", metavar="TEXT", help="Only with these words in their reason."),
    )

    def give(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(settings: Settings, **arguments: Any) -> None:
            fields = {name: arguments.pop(name) for name in Choice.__struct_fields__ if name in arguments}
            since: datetime | None = fields["since"]
            fields["since"] = since and since.replace(tzinfo=UTC)
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
    found = _ask(settings, lambda database: events.find(database, choice, limit=limit))
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
    found = _ask(settings, lambda database: events.read(database, event, integration))
    for one in found:
        events.print_event(console, one)
    if not found:
        raise _Failed(f"There is no event {event}. `mirror events list` names those there are.")


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
    _finish(_ask(settings, lambda database: events.retry(database, choice)), "Retried")


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
    _finish(_ask(settings, lambda database: events.skip(database, choice, why)), "Skipped")


def _confirmed(settings: Settings, choice: Choice, verb: str, *, everything: bool, yes: bool) -> Choice:
    """Return what is to be changed, once somebody has seen how much that is and agreed."""
    if choice.is_anything and not everything:
        raise click.UsageError("Name events by their ids, narrow the choice by an option, or say --all.")
    if choice.state is None and not choice.events:
        choice = msgspec.structs.replace(choice, state="dead")
    if not (yes or choice.events):
        number = _ask(settings, lambda database: events.count(database, choice))
        if number == 0:
            click.echo("There is no such event.")
            sys.exit(0)
        click.confirm(f"{verb} {number:,} {choice.state} events?", abort=True)
    return choice


def _finish(outcome: Outcome, verb: str) -> None:
    events.print_outcome(console, outcome, verb)
    if outcome.unknown:
        raise _Failed("Some of the ids are unknown: `mirror events list` names those there are.")


def _ask(settings: Settings, question: Callable[[Database], Awaitable[Answer]]) -> Answer:
    """Ask the database something, over one connection."""

    async def ask(address: Address) -> Answer:
        async with connect(address, connections=1) as database:
            return await question(database)

    with existing_database(settings) as address:
        return asyncio.run(ask(address))


@command
@click.option("--seconds", type=click.FloatRange(1), default=30, show_default=True, help="How long it blows.")
@click.option("--rate", type=click.FloatRange(0.1), default=50, show_default=True, help="Changes in the shop a second.")
@click.option(
    "--faults", type=click.Choice(list(LEVELS)), default="heavy", show_default=True, help="How much goes wrong."
)
@click.option("--seed", type=int, help="Of what happens; one of its own each time if not given.")
@click.option("--admin-edits", is_flag=True, help="Admins set stages and tracking numbers in the mirror meanwhile.")
@click.option(
    "--kill-every", type=click.FloatRange(0.5), metavar="SECONDS", help="Kill processes and Postgres so often."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: the verdict.")
def storm(settings: Settings, as_json: bool, faults: str, seed: int | None, **weather: Any) -> None:
    """Let a simulated shop and all that can go wrong loose on a mirror, and see whether it equals the shop.

    Starts an embedded Postgres, the API and two daemons of its own. Hooks get lost, doubled, late, stale, cut and
    forged; the shop's Admin API is busy, broken and gone. Then the mirror comes to rest, and every customer and order
    is compared. Exit code 0 only if nothing differs, nothing is lost and nothing counts twice.
    """
    interrupts.treat_sigterm_as_interrupt()
    chosen = time.time_ns() % 1_000_000 if seed is None else seed
    loud = Console(stderr=True) if as_json else console
    verdict = run_storm(settings, Weather(faults=LEVELS[faults], seed=chosen, **weather), loud)
    if as_json:
        click.echo(msgspec.json.encode(verdict))
    else:
        print_verdict(console, verdict)
    if not verdict.converged:
        raise _Failed(f"The mirror does not equal the shop. The same storm again: --seed {chosen}")


@command
@click.argument("code")
@click.option("--store", metavar="SLUG", help="Of this store, where several have an order of this code.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(settings: Settings, code: str, store: str | None, as_json: bool) -> None:
    """Tell the story of the order with this CODE.

    In the order of time: each event, poll, person, batch or command that had to do with it or its customer, what
    became of that, and which events were ignored as older.
    """
    moments = _ask(settings, lambda database: tell(database, code, store))
    if as_json:
        click.echo(msgspec.json.encode(moments))
    elif moments:
        print_story(console, moments)
    else:
        raise _Failed(f"Nothing is known of an order {code}: it is not here, and no event of it waits or is dead.")


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
        raise _Failed("The tables do not hold what the stored events say.")


@command
def secret(_: Settings) -> None:
    """Make a hook secret, for VENDURE_HOOK_SECRETS and the shop's plugin."""
    click.echo(make_secret())


@command
def token_key(_: Settings) -> None:
    """Make the key that signs customers' tokens, for MIRROR_TOKEN_KEY.

    It is a private key, as a JWK on one line. Supabase must know it, too, to accept the tokens: in the dashboard,
    Project Settings, JWT Keys, "Create standby key", "Import an existing private key" (ES256), paste it. Leave it a
    standby key, or rotate to it: Supabase accepts tokens by both. A local project reads it from a file with a list of
    such keys: `signing_keys_path` under `[auth]` in supabase/config.toml.
    """
    click.echo(make_token_key())


def _configured(settings: Settings) -> Address:
    if settings.database is None:
        raise SettingsError(NO_DATABASE)
    return settings.database
