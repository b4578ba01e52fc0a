"""`mirror demo`: a whole mirror on this machine, fed with the recorded hooks of a real Vendure server.

The hooks go over HTTP to the mirror's own endpoint, freshly signed, in another order than they came and some of
them twice, with a forged one among them. In the end every customer and order is compared with what the engine's
Admin API said. Each run has a database of its own, which goes when it ends.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
from rich.console import Console
from rich.progress import Progress

from sync import embedded, interrupts, report
from sync.compare import Comparison, Documents, compare
from sync.database import Database, connect
from sync.engines.base import Context
from sync.migrate import migrate
from sync.recording import load_recording
from sync.replay import deliveries, replay
from sync.settings import Settings
from sync.stack import LOOPBACK, SECRETS_VARIABLE, make_secret, running
from sync.status import Status, read_status

INTEGRATION = "vendure"
DRAIN_SECONDS = 60

UNUSED_DATABASES = """
    select datname from pg_database
    where
        datname like 'demo\\_%' and datname not in (select datname from pg_stat_activity where datname is not null)
        and (pg_stat_file('base/' || oid || '/PG_VERSION')).modification < now() - interval '1 minute'
"""
"""Not the youngest: a demo that is just starting is not connected to its own all the time."""


class DemoError(Exception):
    """The demo could not be brought to its end; the message says why."""


class Ground(msgspec.Struct, frozen=True):
    """The demo's own database."""

    dsn: str
    psql: str


def run_demo(settings: Settings, console: Console, *, stay: bool) -> bool:
    """Run the demo; if `stay`, keep the mirror up until Ctrl-C. Return whether the mirror equals the engine."""
    home = settings.home / "demo"
    console.print(f"Starting an embedded Postgres in [bold]{home}[/] …")
    with _ground(home / "postgres") as ground:
        return interrupts.run(_demonstrate(ground, home, console, stay=stay))


@contextmanager
def _ground(folder: Path) -> Iterator[Ground]:
    with embedded.start(folder) as server:
        name = f"demo_{secrets.token_hex(4)}"
        asyncio.run(_create_database(server.superuser_dsn, name))
        try:
            dsn = _with_database(server.dsn, name)
            asyncio.run(migrate(dsn, superuser_dsn=_with_database(server.superuser_dsn, name)))
            yield Ground(dsn, server.psql.removesuffix(embedded.DATABASE) + name)
        finally:
            asyncio.run(_run(server.superuser_dsn, f"drop database {name} with (force)"))


async def _create_database(superuser_dsn: str, name: str) -> None:
    """Create a run's database; remove what runs that were killed left behind."""
    left = await _run(superuser_dsn, UNUSED_DATABASES)
    for row in left:
        await _run(superuser_dsn, f"drop database if exists {row['datname']}")
    await _run(superuser_dsn, f"create database {name} owner {embedded.OWNER}")


async def _run(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def _demonstrate(ground: Ground, home: Path, console: Console, *, stay: bool) -> bool:
    recording, secret, port = load_recording(), make_secret(), embedded.free_port()
    address = f"http://{LOOPBACK}:{port}"
    environment = {
        "DATABASE_URL": ground.dsn,
        SECRETS_VARIABLE: secret,
        "MIRROR_HOST": LOOPBACK,
        "MIRROR_PORT": str(port),
    }
    console.print(f"Starting the API at [bold]{address}[/] and the daemon (logs: {home}) …")
    async with running(address, environment, logs=home), connect(ground.dsn) as database:
        started = time.monotonic()
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Posting recorded hooks", total=deliveries(recording.hooks))
            tally = await replay(
                recording.hooks,
                f"{address}/hooks/{INTEGRATION}",
                secret,
                seed=time.time_ns(),
                advance=lambda: progress.advance(task),
            )
            status = await drained(database)
        comparison = await compare_with_recording(database, recording.documents)
        report.print_outcome(console, tally, status, comparison, seconds=time.monotonic() - started)
        await report.print_tracking(console, address, recording.documents)
        if stay:
            report.print_where_to_look(console, address, ground.psql)
            await asyncio.Event().wait()  # until Ctrl-C cancels us
    return not comparison.differences and not status.inbox["dead"]


async def drained(database: Database) -> Status:
    """Wait until no event is pending; return the status then."""
    for _ in range(DRAIN_SECONDS * 10):
        status = await read_status(database)
        if not status.inbox["pending"]:
            return status
        await asyncio.sleep(0.1)
    raise DemoError(f"Events are still pending after {DRAIN_SECONDS} s: see the daemon's log.")


async def compare_with_recording(database: Database, documents: Documents) -> Comparison:
    """Compare the tables of the demo's integration with what the engine had in the end."""
    rows = await database.rows("list_integrations")
    row = next(row for row in rows if row["slug"] == INTEGRATION)
    context = Context(phone_region=row["phone_region"], money_precision=row["money_precision"])
    return await compare(database, row["id"], documents, context)


def _with_database(dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))
