"""The daemon: keeps the tables up with the inbox, tells the engines what admins change, books finished invoices, and
does the scheduled work.

A notification wakes it (LISTEN), a poll in case none came. While the database is away it waits, longer each
time, and goes on when it is back. Told to stop, it finishes the slice in hand. As many daemons as you like may
run at once.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import ClassVar, Protocol

import msgspec
import structlog

from sync.clients import open_clients
from sync.database import Database, connect
from sync.deliver import Deliver
from sync.drain import Drain
from sync.engines.base import Client
from sync.errors import Reject, Retry
from sync.garbage import spare_what_is_loaded
from sync.lexoffice.api import Lexoffice
from sync.lexoffice.api import connect as connect_lexoffice
from sync.lexoffice.push import Push
from sync.reconcile import Reconciling
from sync.schedule import keep_schedule
from sync.settings import Address, Settings

log = structlog.get_logger()

WAIT_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Wait while the database is away, by failures in a row; the last holds for all that follow."""


async def work(address: Address, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    spare_what_is_loaded()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with connect(address, connections=settings.database_connections) as database, AsyncExitStack() as stack:
        log.info("daemon.started", database=settings.database_variables)
        clients = await _clients(database, stack, stop)
        account = await stack.enter_async_context(connect_lexoffice(settings.lexoffice)) if settings.lexoffice else None
        await Daemon(database, settings, clients, account).run(stop)
        log.info("daemon.stopped")


async def _clients(database: Database, stack: AsyncExitStack, stop: asyncio.Event) -> dict[str, Client]:
    """Open the clients of the engines, as soon as the database can say which there are."""
    failures = 0
    while not stop.is_set():
        try:
            return await stack.enter_async_context(open_clients(database))
        except (Retry, Reject) as error:
            log.warning("daemon.retry", reason=error.reason)
        await _wait(stop, _wait_seconds(failures))
        failures += 1
    return {}


class Counts(Protocol):
    """What a duty did."""

    __struct_fields__: ClassVar[tuple[str, ...]]


class _Duty(msgspec.Struct, frozen=True, eq=False):
    """Work that a notification tells of, and that ends when nothing is due."""

    done: str
    """What the log says of it."""
    channel: str
    run: Callable[[asyncio.Event], Awaitable[Counts]]
    wake: asyncio.Event


class Daemon:
    """The duties that run side by side over one database."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clients: Mapping[str, Client] | None = None,
        lexoffice: Lexoffice | None = None,
    ) -> None:
        self._database = database
        self._poll_seconds = settings.poll_seconds
        lease = timedelta(seconds=settings.lease_seconds)
        drain = Drain(database, clients, slice_size=settings.slice_size, lease=lease)
        self._duties = [_Duty("daemon.drained", "mirror_inbox", drain.run, asyncio.Event())]
        if clients:
            deliver = Deliver(database, clients)
            self._duties.append(_Duty("daemon.delivered", "mirror_outbox", deliver.run, asyncio.Event()))
        if lexoffice:
            push = Push(database, lexoffice)
            self._duties.append(_Duty("daemon.booked", "mirror_lexoffice", push.run, asyncio.Event()))
        self._reconciling = Reconciling(database, clients or {})

    async def run(self, stop: asyncio.Event) -> None:
        """Do the duties and keep the schedule until `stop` is set."""
        listening = [asyncio.create_task(self._listen(duty)) for duty in self._duties]
        keeping = [asyncio.create_task(self._keep(duty, stop)) for duty in self._duties]
        keeping.append(asyncio.create_task(keep_schedule(self._database, stop)))
        keeping.append(asyncio.create_task(self._reconciling.run(stop)))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((*listening, *keeping, stopping), return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        for duty in self._duties:
            duty.wake.set()
        for task in (*listening, stopping):
            task.cancel()
        await asyncio.gather(*keeping)
        for task in listening:
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self, duty: _Duty) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._database.listen(duty.channel, lambda _: duty.wake.set())
            except (Retry, Reject) as error:
                log.warning("daemon.not_listening", reason=error.reason, action="polling meanwhile")
            if time.monotonic() - began > WAIT_SECONDS[-1]:
                failures = 0  # it did listen for a while
            await asyncio.sleep(_wait_seconds(failures))
            failures += 1

    async def _keep(self, duty: _Duty, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            duty.wake.clear()
            if await _do(duty, stop):
                failures = 0
                if not stop.is_set():
                    await _wait(duty.wake, self._poll_seconds)
            else:
                await _wait(stop, _wait_seconds(failures))
                failures += 1


async def _do(duty: _Duty, stop: asyncio.Event) -> bool:
    """Do what is due, and say what was done; return whether it went well."""
    try:
        counts = await duty.run(stop)
    except Retry as retry:
        log.warning("daemon.retry", reason=retry.reason)
    except Reject as reject:
        log.warning("daemon.refused", reason=reject.reason, action="is the schema current? run `mirror migrate`")
    except Exception:
        log.exception("daemon.fault", action="what was in hand is taken up again when its lease ends")
    else:
        done = {name: count for name in counts.__struct_fields__ if (count := getattr(counts, name))}
        if done:
            log.info(duty.done, **done)
        return True
    return False


def _wait_seconds(failures: int) -> float:
    return WAIT_SECONDS[min(failures, len(WAIT_SECONDS) - 1)]


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
