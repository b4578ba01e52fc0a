"""Commands that run the mirror and look at it."""

import asyncio
import os
import sys

import click
import msgspec

from sync import embedded, interrupts
from sync.cli.command import Failed, ask, command, configured, console
from sync.daemon import work as run_daemon
from sync.database import Database
from sync.demo import run_demo
from sync.links import MAX_SECONDS, VARIABLE, Links, path_of
from sync.processes import stop_with_parent
from sync.report import print_status
from sync.settings import Settings, load_secrets
from sync.stack import (
    make_secret,
    open_ground,
    running,
)
from sync.status import Status
from sync.token_keys import make_token_key

NOT_HEARD = """No notification comes this way (through a pooler, or the Data API): daemon and API look for what is new
every {:g} s (MIRROR_POLL_SECONDS)."""

MAX_DAYS = MAX_SECONDS // (24 * 3600)


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
        raise Failed("The mirror does not equal the engine: see the differences above.")


@command
@click.option("--workers", type=click.IntRange(1, 64), help="Serve with so many processes; SIGHUP replaces them.")
def serve(settings: Settings, workers: int | None) -> None:
    """Run the API: receives hooks, answers "where is my order?".

    SIGTERM ends it in order: nobody is turned away, and it exits with 0. With --workers a supervisor keeps so many
    processes behind one socket, and SIGHUP replaces them by new ones, which load the code that is installed by then;
    no request is lost. systemd may hand over the socket (docs/operating.md).
    """
    configured(settings)
    arguments = [] if workers is None else [f"--workers={workers}"]
    os.execv(sys.executable, [sys.executable, "-m", "api", *arguments])  # noqa: S606 - no shell wanted


@command
def work(settings: Settings) -> None:
    """Run the daemon: applies the inbox to the tables. Several may run at once."""
    stop_with_parent()
    asyncio.run(run_daemon(configured(settings), settings))


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
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(settings: Settings, as_json: bool) -> None:
    """Show alarms, the inbox by state, the lag, dead letters, the last runs and their drift, and rows per table."""

    async def question(database: Database) -> tuple[str, bool]:
        return await database.call("get_status"), await database.hears()

    answer, hears = ask(settings, question)
    if as_json:
        click.echo(answer)
        return
    print_status(console, msgspec.json.decode(answer, type=Status))
    if not hears:
        console.print(NOT_HEARD.format(settings.poll_seconds), soft_wrap=True)


@command
def secret(_: Settings) -> None:
    """Make a secret: of hooks, for VENDURE_HOOK_SECRETS and the shop's plugin; of links, for MIRROR_LINK_SECRET."""
    click.echo(make_secret())


@command
@click.argument("code")
@click.option("--store", help="The store's slug; the first store without it.")
@click.option("--days", type=click.IntRange(1, MAX_DAYS), default=30, show_default=True, help="How long it holds.")
@click.option("--base", help="Where customers reach the API, as in https://orders.shop.example; else where it listens.")
def track_link(settings: Settings, code: str, store: str | None, days: int, base: str | None) -> None:
    """Make a link to the tracking page of an order, as a shop would put it into a message.

    Whoever has it sees where the order is, but neither who bought it nor for how much. It is signed with
    MIRROR_LINK_SECRET, and works whether or not the order has arrived here yet. docs/tracking.md says how a shop makes
    such links itself.
    """
    links = Links(load_secrets([VARIABLE])[VARIABLE])
    slugs = [row["slug"] for row in ask(settings, lambda database: database.rows("list_stores"))]
    if not slugs or (store is not None and store not in slugs):
        raise Failed(f"There is no active store {store or ''}: the slugs are {', '.join(slugs) or 'none'}.")
    link = links.make(store or slugs[0], code, seconds=days * 24 * 3600)
    click.echo((base or f"http://{settings.host}:{settings.port}").rstrip("/") + path_of(code, link, store))


@command
def token_key(_: Settings) -> None:
    """Make the key that signs customers' tokens, for MIRROR_TOKEN_KEY.

    It is a private key, as a JWK on one line. Supabase must know it, too, to accept the tokens: in the dashboard,
    Project Settings, JWT Keys, "Create standby key", "Import an existing private key" (ES256), paste it. Leave it a
    standby key, or rotate to it: Supabase accepts tokens by both. A local project reads it from a file with a list of
    such keys: `signing_keys_path` under `[auth]` in supabase/config.toml.
    """
    click.echo(make_token_key())
