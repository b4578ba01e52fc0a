"""Counts against rate limits, in memory as long as it can, with the other processes where it matters.

Of each limit a process lets a small part (`Quota.free`) through by itself: whoever asks rarely, and that is nearly
everybody, costs no call of the database. Beyond that it takes further parts of what is left from Postgres
(`mirror.lease_requests`), for all who wait in one call, one call at a time. Whoever has used up a limit is remembered,
so a flood costs no call either. Together the processes let through the limit, and each its free part at the most.

While Postgres is away each process counts by itself; what could be guessed is not told then.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import msgspec
import structlog

from api.limits.quotas import Quota
from sync.database import Database
from sync.deadline import within
from sync.errors import Retry

log = structlog.get_logger()

PARTS = 8
"""A process takes an eighth of a limit at a time."""

PATIENCE_SECONDS = 1.0
MAX_REMEMBERED = 50_000
"""Whoever is forgotten for want of room begins anew."""

Key = tuple[str, str]
"""A limit's name, and whose it is."""


class Count(msgspec.Struct):
    """What this process has of one limit of somebody's."""

    quota: Quota
    left: int
    """May be spent without asking."""
    taken: int
    """Of the limit, as far as we know what is spent or in the hands of a process, this one's included."""
    unreported: int
    """Of what this process has taken, what Postgres does not know yet."""
    ends_at: float
    is_over: bool = False
    """No more is to be had."""
    reserved: int = 0
    """Taken by who may give it back."""
    queue: deque[asyncio.Future[None]] = msgspec.field(default_factory=deque)
    """Who waits for something to be given back."""

    @property
    def is_lent(self) -> bool:
        """Whether it is better to wait for what may be given back than to take more."""
        return self.reserved > (0 if self.is_over else self.part // 2)

    async def called(self) -> None:
        """Wait in the queue; who goes away when called calls the next one."""
        self.queue.append(turn := asyncio.get_running_loop().create_future())
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.call_next()
            raise

    def call_next(self) -> None:
        """Let the next in the queue see whether there is something now."""
        while self.queue:
            waiting = self.queue.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    @property
    def part(self) -> int:
        """How much is asked for at a time."""
        return max(1, self.quota.limit // PARTS)

    def take(self, granted: int, taken: int) -> None:
        """Note what was handed out, and how much of the limit is gone now."""
        self.left += granted
        self.taken = min(taken, self.quota.limit)
        self.is_over = granted == 0


class Spent(msgspec.Struct, frozen=True):
    """What came of a request for a part of a limit."""

    is_granted: bool
    remaining: int
    seconds: int
    """Until all begins anew."""


class Reserved:
    """One of a limit, until it is known whether it counts."""

    def __init__(self, count: Count) -> None:
        self._count = count

    def settle(self, *, counts: bool) -> None:
        """Spend it, or give it back."""
        self._count.reserved -= 1
        self._count.left += not counts
        self._count.call_next()


class Counter:
    """The counts of one process."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._counts: OrderedDict[Key, Count] = OrderedDict()
        self._waiting: dict[Key, tuple[Count, asyncio.Future[None]]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def spend(self, quota: Quota, whose: str) -> Spent:
        """Take one of a limit, if one is left; while Postgres is away, as far as this process knows."""
        key = (quota.name, whose)
        count = self._count(key, quota)
        while count.left <= 0 and not count.is_over:
            try:
                await self._lease(key, count)
            except Retry:
                self._go_alone(count)
        return self._taken(count)

    async def reserve(self, quota: Quota, whose: str) -> tuple[Spent, "Reserved | None"]:
        """Take one of a limit for something that may turn out not to count; settle it then.

        Whoever comes when all that is left is reserved waits for one to be settled: so however many come at once, no
        more than the limit can miss, and those who hit keep nobody out. Raise Retry if it cannot be known what the
        others spent.
        """
        key = (quota.name, whose)
        count = self._count(key, quota)
        while count.left <= 0 and (count.is_lent or not count.is_over):
            if count.is_lent:
                await count.called()
            else:
                await self._lease(key, count)
        spent = self._taken(count)
        if not spent.is_granted:
            count.call_next()
            return spent, None
        count.reserved += 1
        return spent, Reserved(count)

    def _taken(self, count: Count) -> Spent:
        is_granted = count.left > 0
        if is_granted:
            count.left -= 1
        seconds = max(1, math.ceil(count.ends_at - self._clock()))
        return Spent(is_granted, count.quota.limit - count.taken + count.left, seconds)

    def _count(self, key: Key, quota: Quota) -> Count:
        now = self._clock()
        count = self._counts.get(key)
        if count is None or count.ends_at <= now:
            count = self._counts[key] = Count(quota, quota.free, quota.free, quota.free, now + quota.seconds)
            self._counts.move_to_end(key)
            while len(self._counts) > MAX_REMEMBERED:
                self._counts.popitem(last=False)
        return count

    async def _lease(self, key: Key, count: Count) -> None:
        """Have more handed out, with whoever else waits for some; raise Retry if Postgres is away."""
        _, answered = self._waiting.setdefault(key, (count, asyncio.get_running_loop().create_future()))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        await asyncio.shield(answered)

    def _go_alone(self, count: Count) -> None:
        """Let more through by our own count: others do the same."""
        if count.left <= 0:
            granted = max(0, min(count.part, count.quota.limit - count.taken))
            count.unreported += granted
            count.take(granted, count.taken + granted)

    async def _ask_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            try:
                await self._ask({key: count for key, (count, _) in waiting.items()})
            except Exception as error:
                log.warning("limits.alone", reason=str(error), action="each process counts by itself")
                failure = Retry("what others have asked for cannot be known now")
                for _, answered in waiting.values():
                    answered.set_exception(failure)
                    answered.exception()  # looked at, in case nobody waits any more
            else:
                for _, answered in waiting.values():
                    answered.set_result(None)

    async def _ask(self, counts: dict[Key, Count]) -> None:
        leases = {
            "scope": [scope for scope, _ in counts],
            "subject": [subject for _, subject in counts],
            "quota": [count.quota.limit for count in counts.values()],
            "seconds": [count.quota.seconds for count in counts.values()],
            "spent": [count.unreported for count in counts.values()],
            "wanted": [count.part for count in counts.values()],
        }
        call = self._database.rows("lease_requests", p_leases=msgspec.json.encode(leases).decode())
        rows = await within(PATIENCE_SECONDS, call)
        now = self._clock()
        for count, row in zip(counts.values(), rows, strict=True):
            granted, used, wait = row
            count.unreported = 0
            count.take(granted, used)
            count.ends_at = now + wait
            if count.is_over:
                log.info("limits.reached", limit=count.quota.name, seconds=wait)
