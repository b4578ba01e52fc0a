"""The daemon: keeps the tables up with the inbox, and does the scheduled work, until it is told to stop.

A notification wakes it (LISTEN), a poll in case none came. While the database is away it waits, longer each
time, and goes on when it is back. Told to stop, it finishes the slice in hand. As many daemons as you like may
run at once.
"""

import asyncio
import signal
import time
from contextlib import suppress
from datetime import timedelta

import structlog

from sync.database import Database, connect
from sync.drain import Counts, Drain
from sync.errors import Reject, Retry
from sync.schedule import keep_schedule
from sync.settings import Address, Settings

log = structlog.get_logger()

CHANNEL = "mirror_inbox"
WAIT_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Wait while the database is away, by failures in a row; the last holds for all that follow."""


async def work(address: Address, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with connect(address, connections=settings.database_connections) as database:
        log.info("daemon.started", database=settings.database_variables)
        await Daemon(database, settings).run(stop)
        log.info("daemon.stopped")


class Daemon:
    """The duties that run side by side over one database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._poll_seconds = settings.poll_seconds
        self._drain = Drain(database, slice_size=settings.slice_size, lease=timedelta(seconds=settings.lease_seconds))
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Listen, drain and keep the schedule until `stop` is set."""
        listening = asyncio.create_task(self._listen())
        draining = asyncio.create_task(self._keep_draining(stop))
        scheduling = asyncio.create_task(keep_schedule(self._database, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((listening, draining, scheduling, stopping), return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        self._wake.set()
        listening.cancel()
        stopping.cancel()
        await asyncio.gather(draining, scheduling)
        with suppress(asyncio.CancelledError):
            await listening

    async def _listen(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._database.listen(CHANNEL, self._wake)
            except (Retry, Reject) as error:
                log.warning("daemon.not_listening", reason=error.reason, action="polling meanwhile")
            if time.monotonic() - began > WAIT_SECONDS[-1]:
                failures = 0  # it did listen for a while
            await asyncio.sleep(_wait_seconds(failures))
            failures += 1

    async def _keep_draining(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            self._wake.clear()
            counts, failed = await self._drain_once(stop)
            if counts != Counts():
                log.info("daemon.drained", **{name: n for name, n in _items(counts) if n})
            failures = failures + 1 if failed else 0
            if failed:
                await _wait(stop, _wait_seconds(failures - 1))
            elif not stop.is_set():
                await _wait(self._wake, self._poll_seconds)

    async def _drain_once(self, stop: asyncio.Event) -> tuple[Counts, bool]:
        """Drain what is due; return the counts and whether it failed."""
        try:
            return await self._drain.run(stop), False
        except Retry as retry:
            log.warning("daemon.retry", reason=retry.reason)
        except Reject as reject:
            log.warning("daemon.refused", reason=reject.reason, action="is the schema current? run `mirror migrate`")
        except Exception:
            log.exception("daemon.fault", action="the events in hand are taken up again when their lease ends")
        return Counts(), True


def _items(counts: Counts) -> list[tuple[str, int]]:
    return [(name, getattr(counts, name)) for name in counts.__struct_fields__]


def _wait_seconds(failures: int) -> float:
    return WAIT_SECONDS[min(failures, len(WAIT_SECONDS) - 1)]


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
