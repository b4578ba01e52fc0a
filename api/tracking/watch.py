"""Who watches which order, and what they hear when it changes.

One task per process hears of all changes (LISTEN, on a connection of its own, from the first who watches on), and asks
anew for the orders that are watched and concerned: many changes at once are one look. What no notification tells of is
seen by a look at all of them from time to time; where none can arrive (a transaction pooler, the Data API) it is often.
For everyone who watches only the latest state is kept: whoever is slow misses states in between, and costs no memory.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import structlog

from api.tracking.orders import Asked, Found, Orders
from sync.database import Database
from sync.errors import Reject, Retry

log = structlog.get_logger()

CHANNEL = "mirror_tracking"

PAUSE_SECONDS = 0.2
"""Between two looks: what changes meanwhile is one look, and one event for whoever watches."""

SWEEP_SECONDS = 30.0
"""So often all are looked at, although notifications arrive."""

RETRY_SECONDS = 5.0


class Watcher:
    """Somebody who watches an order."""

    def __init__(self, asked: Asked, found: Found) -> None:
        self.asked = asked
        self.found = found
        """The latest state."""
        self.is_over = False
        """There is nothing more to come: the order is gone, or its proof; or the process ends."""
        self.changed = asyncio.Event()

    def end(self) -> None:
        """Let there be nothing more to come."""
        self.is_over = True
        self.changed.set()

    @property
    def keys(self) -> set[UUID]:
        """Return what notifications name: the order and its batch."""
        return {self.found.order_id} | ({self.found.batch_id} if self.found.batch_id else set())


class Watch:
    """Keeps the watchers up to date. Close it before its database."""

    def __init__(self, database: Database, orders: Orders, *, poll_seconds: float) -> None:
        self._database = database
        self._orders = orders
        self._poll_seconds = poll_seconds
        self._watchers: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._due: set[Watcher] = set()
        self._is_listening = False
        self._swept_at = time.monotonic()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @contextmanager
    def watching(self, asked: Asked, found: Found, stopping: asyncio.Event) -> Iterator[Watcher]:
        """Watch an order, from this state on."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(work) for work in (self._listen(), self._look(), self._stop(stopping))]
        watcher = Watcher(asked, found)
        self._add(watcher)
        self._look_at({watcher})  # it may have changed since it was found
        if stopping.is_set():
            watcher.end()
        try:
            yield watcher
        finally:
            watcher.end()
            self._remove(watcher)
            self._due.discard(watcher)

    async def close(self) -> None:
        """End all, and stop listening."""
        for watcher in self._all():
            watcher.end()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    def _add(self, watcher: Watcher) -> None:
        for key in watcher.keys:
            self._watchers[str(key)].add(watcher)

    def _remove(self, watcher: Watcher) -> None:
        for key in map(str, watcher.keys):
            self._watchers[key].discard(watcher)
            if not self._watchers[key]:
                del self._watchers[key]

    def _all(self) -> set[Watcher]:
        return set().union(*self._watchers.values())

    def _look_at(self, watchers: set[Watcher]) -> None:
        self._due |= watchers
        self._wake.set()

    def _heard(self, told: str) -> None:
        """Take a notification: the id of an order or a batch; nothing when notifications begin to arrive."""
        if not told:
            self._is_listening = True
            self._look_at(self._all())
        elif watchers := self._watchers.get(told):
            self._look_at(watchers)

    async def _listen(self) -> None:
        while True:
            try:
                await self._database.listen(CHANNEL, self._heard)
            except (Retry, Reject) as error:
                log.warning("tracking.not_listening", reason=error.reason, action="looking from time to time meanwhile")
            self._is_listening = False
            await asyncio.sleep(RETRY_SECONDS)

    async def _stop(self, stopping: asyncio.Event) -> None:
        """End all when the process is to end, so that they come back to another one."""
        await stopping.wait()
        for watcher in self._all():
            watcher.end()

    async def _look(self) -> None:
        """Look at what is due, again and again."""
        while True:
            await self._until_due()
            due, self._due = self._due, set()
            try:
                await self._look_again(due)
            except Exception as error:
                if isinstance(error, Retry):
                    log.warning("tracking.watch_retry", reason=error.reason)
                else:
                    log.exception("tracking.watch_failed")
                self._due |= due
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _until_due(self) -> None:
        pause = SWEEP_SECONDS if self._is_listening else self._poll_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(self._swept_at + pause - time.monotonic()):
                await self._wake.wait()
        self._wake.clear()
        if time.monotonic() >= self._swept_at + pause:
            self._due |= self._all()
            self._swept_at = time.monotonic()

    async def _look_again(self, due: set[Watcher]) -> None:
        """Ask for these orders, together; raise what went wrong with any of them, after the others were told."""
        watchers = [watcher for watcher in due if not watcher.is_over]
        answers = await asyncio.gather(
            *(self._orders.look_up(watcher.asked) for watcher in watchers), return_exceptions=True
        )
        failure: BaseException | None = None
        for watcher, answer in zip(watchers, answers, strict=True):
            if isinstance(answer, BaseException):
                failure = answer
            elif answer is None:
                watcher.end()
            elif answer.order.version != watcher.found.order.version:
                self._tell(watcher, answer)
        if failure is not None:
            raise failure

    def _tell(self, watcher: Watcher, found: Found) -> None:
        if watcher.is_over:
            return  # it went away meanwhile
        self._remove(watcher)
        watcher.found = found
        self._add(watcher)
        watcher.changed.set()
