"""`mirror storm`: a mirror of its own, a shop in which anything happens, and everything that can go wrong between.

A Postgres, the API and two daemons run on this machine. The shop changes at a given rate and tells its changes by hooks
that get lost, doubled, late, stale, cut and forged; its Admin API is busy, broken and gone; processes and Postgres are
killed. Then the wind drops, the mirror comes to rest, and every entity is compared with the shop's, field by field.
"""

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
from rich.console import Console
from rich.progress import Progress

from sync import embedded, interrupts
from sync.database import connect
from sync.embedded import OWNER, EmbeddedPostgres
from sync.migrate import migrate
from sync.processes import Process
from sync.settings import Settings
from sync.stack import LOOPBACK, SECRETS_VARIABLE, make_secret, running
from sync.storm.admin_api import PASSWORD, USERNAME
from sync.storm.admins import Admins
from sync.storm.emitter import Emitter
from sync.storm.faults import NONE, Faults
from sync.storm.havoc import Havoc
from sync.storm.server import AdminApiServer
from sync.storm.shop import Shop
from sync.storm.verdict import Verdict, judge

INTEGRATION = "vendure"
DATABASE = "storm"
DAEMONS = 2
REST_SECONDS = 180
"""A mirror that takes longer to come to rest never does."""
PAST = 400
"""Things that happened in the shop before the mirror was there: for the backfill."""
ADMINS_SHARE = 0.1
"""Of the rate of changes in the shop: edits by admins in the mirror."""

LAPSE = (
    "update mirror.webhook_events set available_at = now() where state = 'pending' and updated_at < $1",
    "update mirror.outbox set available_at = now() where state = 'pending' and updated_at < $1",
)
MOVING = """
    select
        (select count(*) from mirror.webhook_events where state = 'pending')
        + (select count(*) from mirror.outbox where state = 'pending')
"""


class StormError(Exception):
    """The storm could not be ridden out; the message says why."""


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """What a storm is like."""

    seconds: float
    rate: float
    """Changes in the shop per second."""
    faults: Faults
    seed: int
    admin_edits: bool = False
    kill_every: float | None = None
    """Seconds between two kills; None: nothing is killed. It blows on until everything was killed once."""


def run_storm(settings: Settings, weather: Weather, console: Console) -> Verdict:
    """Run a storm in the settings' home; return the verdict."""
    home = settings.home / "storm"
    with _alone(home), embedded.start(home / "postgres") as server:
        dsn = asyncio.run(_fresh_database(server))
        return interrupts.run(_Storm(dsn, home, weather, console).run(server))


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the folder: another storm there would restart the Postgres of this one."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "storm.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StormError(f"Another storm runs in {home}. Wait for it, or set another MIRROR_HOME.") from None
        yield


async def _fresh_database(server: EmbeddedPostgres) -> str:
    """Return the address of a new database; the one of the storm before it goes."""
    connection = await asyncpg.connect(server.superuser_dsn)
    try:
        await connection.execute(f"drop database if exists {DATABASE} with (force)")
        await connection.execute(f"create database {DATABASE} owner {OWNER}")
    finally:
        await connection.close()
    dsn, superuser_dsn = _of_storm(server.dsn), _of_storm(server.superuser_dsn)
    await migrate(dsn, superuser_dsn=superuser_dsn)
    return dsn


def _of_storm(dsn: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{DATABASE}"))


class _Storm:
    """The shop and its weather, over one database."""

    def __init__(self, dsn: str, home: Path, weather: Weather, console: Console) -> None:
        self._dsn = dsn
        self._home = home
        self._weather = weather
        self._console = console
        self._secret, self._port = make_secret(), embedded.free_port()
        self._address = f"http://{LOOPBACK}:{self._port}"
        faults, seed = weather.faults, weather.seed
        self._shop = Shop(seed)
        self._api = AdminApiServer(self._shop, faults.api, seed=seed)
        hooks = f"{self._address}/hooks/{INTEGRATION}"
        self._emitter = Emitter(self._shop, hooks, self._secret, faults.hooks, seed=seed)
        for _ in range(PAST):
            self._shop.step()
        self._shop.on_change = self._emitter.note
        self._admins = Admins(dsn, weather.rate * ADMINS_SHARE, seed=seed)
        self._environment = {
            "DATABASE_URL": dsn,
            SECRETS_VARIABLE: self._secret,
            "MIRROR_HOST": LOOPBACK,
            "MIRROR_PORT": str(self._port),
            "no_proxy": LOOPBACK,
            "MIRROR_LEASE_SECONDS": "5",
            "MIRROR_POLL_SECONDS": "0.5",
            "VENDURE_API_URL": self._api.url,
            "VENDURE_API_KEY": "",
            "VENDURE_API_USERNAME": USERNAME,
            "VENDURE_API_PASSWORD": PASSWORD,
        }
        self._backfill = Process(["backfill", INTEGRATION], self._environment, home / "backfill.log")
        self._filled = asyncio.Event()
        self._offences: list[str] = []

    async def run(self, server: EmbeddedPostgres) -> Verdict:
        """Let it blow, let it rest, and judge."""
        self._console.print(
            f"Starting the API at [bold]{self._address}[/] and {DAEMONS} daemons (logs: {self._home}) …"
        )
        async with running(self._address, self._environment, logs=self._home, daemons=DAEMONS) as processes:
            havoc = Havoc(server, [*processes, self._backfill], self._weather.kill_every or 0, seed=self._weather.seed)
            async with _beside(self._api.run(), self._emitter.run(), self._fill()):
                began = time.monotonic()
                async with _beside(*self._disturbances(havoc)):
                    await self._blow()
                    if self._weather.kill_every:
                        await havoc.has_struck_all.wait()
                abated = time.monotonic()
                self._api.faults, self._emitter.faults = NONE.api, NONE.hooks
                await self._rest(processes[1:])
                rested = time.monotonic()
                verdict = await self._judge()
        return msgspec.structs.replace(
            verdict, seconds=abated - began, rest_seconds=rested - abated, thrown=self._thrown(havoc)
        )

    def _thrown(self, havoc: Havoc) -> dict[str, int]:
        thrown = self._emitter.thrown + self._api.thrown + self._admins.thrown + havoc.thrown
        return dict(sorted(thrown.items()))

    def _disturbances(self, havoc: Havoc) -> list[Coroutine[Any, Any, None]]:
        weather = self._weather
        edits = [self._admins.run()] if weather.admin_edits else []
        return edits + ([havoc.run()] if weather.kill_every else [])

    async def _blow(self) -> None:
        """Change the shop at the rate of the weather; a machine that is too slow takes longer, and does as much."""
        steps, began = round(self._weather.seconds * self._weather.rate), time.monotonic()
        with Progress(console=self._console, transient=True) as progress:
            task = progress.add_task("The storm blows", total=steps)
            for step in range(steps):
                await asyncio.sleep(began + step / self._weather.rate - time.monotonic())
                self._shop.step()
                progress.advance(task)

    async def _fill(self) -> None:
        """Read what was there before the mirror was, beside the hooks; begun again until it is complete."""
        while not self._filled.is_set():
            if await self._backfill.run_to_end() == 0:
                self._filled.set()
            await asyncio.sleep(1)

    async def _rest(self, daemons: Sequence[Process]) -> None:
        """Heal what the hooks did not tell, and wait until nothing moves any more.

        What still moves when patience ends is for the verdict to say.
        """
        self._console.print("The wind drops; the mirror comes to rest …")
        try:
            async with asyncio.timeout(REST_SECONDS):
                await self._filled.wait()
                await self._lapse(daemons)
                await self._quiet()
                await self._reconcile()
                await self._quiet()
        except TimeoutError:
            self._offences.append(f"it did not come to rest within {REST_SECONDS} s")

    async def _lapse(self, daemons: Sequence[Process]) -> None:
        """Let the leases of those who were killed be over: it would take minutes until they lapse by themselves."""
        await asyncio.gather(*(daemon.restart() for daemon in daemons))
        stopped_at = datetime.now(UTC)
        async with _connection(self._dsn) as connection:
            for statement in LAPSE:
                await connection.execute(statement, stopped_at)

    async def _reconcile(self) -> None:
        """Compare with the shop, and heal."""
        heal = Process(["reconcile", INTEGRATION, "--fix"], self._environment, self._home / "reconcile.log")
        if code := await heal.run_to_end():
            self._offences.append(f"mirror reconcile {INTEGRATION} --fix ended with exit code {code}")

    async def _quiet(self) -> None:
        """Wait until nothing is on its way, in either direction.

        Seen twice in a row: a command that was sent just before the first look comes back as a hook after it.
        """
        seen = 0
        while seen < 2:
            seen = 0 if await self._moving() or self._emitter.waiting else seen + 1
            await asyncio.sleep(0.1)

    async def _moving(self) -> bool:
        """Tell whether anything waits in the mirror."""
        async with _connection(self._dsn) as connection:
            return bool(await connection.fetchval(MOVING))

    async def _judge(self) -> Verdict:
        async with connect(self._dsn, connections=2) as database, _connection(self._dsn) as connection:
            tangled = self._admins.edited | self._emitter.misled
            verdict = await judge(database, connection, self._shop, self._emitter, tangled)
        offences = verdict.offences + self._offences
        return msgspec.structs.replace(verdict, offences=offences, converged=verdict.converged and not offences)


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect, as soon as Postgres lets us in: it may be coming back from a blow."""
    connection = None
    while connection is None:
        try:
            connection = await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await asyncio.sleep(0.2)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run all of it while this lasts; what fails there, fails here."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
            yield
            for task in tasks:
                task.cancel()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
