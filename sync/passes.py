"""From one end of an engine to the other, slice by slice: list, compare, fetch what differs, write, receipt.

Backfill and reconcile are this. While a slice is written the next ones are listed, compared, fetched and made ready to
be sent, and no more than a few of them, so that memory stays flat however large the shop is. Two connections write
all the time: one that is done with its part of a slice takes a part of the next. What a hook has brought meanwhile is
newer, and wins: a slice's version is the engine's clock before it was read. What cannot be mapped, or what the database
refuses, is named in the receipt and holds up nothing else.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

import msgspec
import structlog

from sync.answers import Answer, Obliging, Source, refuse, told
from sync.engines.base import Sweep
from sync.errors import Await, Reject
from sync.records import Entity, Record
from sync.runs import Cursor, Found, Receipt, Run, Slice, Summary
from sync.slices import LANES, lanes

log = structlog.get_logger()

SLICE_SIZE = 1000
FIRST_SLICE = 250
"""The first slices are smaller, each twice as large as the one before: the database has something to do sooner, and
large slices do not meet the plans that it made for empty tables."""
AHEAD = 1
"""So many slices wait, ready to be written, besides those in hand."""
WRITTEN_AT_ONCE = 3
"""Of so many slices something is written at a time: a part of one, one of the next, the receipt of the one before."""
COUNTS = 3
"""How often the engine's total is asked for before what it says is taken for wrong."""


class Progress(Protocol):
    """Whoever watches a run."""

    def begin(self, entity: Entity, total: int, done: int) -> None:
        """Learn that an entity is read now: how many there are, and how many of them were read before."""

    def wrote(self, receipt: Receipt) -> None:
        """Learn that a slice is done."""


class Unwatched:
    """Nobody watches."""

    def begin(self, entity: Entity, total: int, done: int) -> None:
        pass

    def wrote(self, receipt: Receipt) -> None:
        pass


class _Lane(msgspec.Struct, frozen=True):
    """Records that one connection writes."""

    records: Sequence[Record]
    text: str
    """As the database takes them."""


class _Ready(msgspec.Struct, frozen=True):
    """A slice, ready to be written."""

    part: Slice
    answers: list[Answer]
    lanes: Sequence[_Lane] = ()


class Passes:
    """Reads an engine within a run."""

    def __init__(self, run: Run, source: Source, *, fix: bool, since: datetime | None, progress: Progress) -> None:
        self._run = run
        self._engine = Obliging(source)
        self._fix = fix
        self._since = since
        self._progress = progress
        self._numbers: dict[Entity, int] = {}
        """The next slice's number."""
        self._writers = asyncio.Semaphore(LANES)

    async def read(self, entity: Entity) -> Summary:
        """Read an entity from the run's cursor to its end; return what was found, against what the engine counts.

        What did not agree is read once more, from the first slice that did not: by then it may.
        """
        await self._sweep(self._run.cursors[entity])
        cursor = await self._run.cursor(entity)
        if self._fix and not cursor.is_at_end:
            log.info("run.again", entity=entity, slice=cursor.slice, why="its receipt does not agree")
            await self._sweep(cursor)
        summary = await self.compare_totals(entity)
        if not summary.agrees:
            log.info("run.again", entity=entity, slice=0, why="the engine counts more or fewer than it listed")
            await self._sweep(Cursor(entity, 0, None, is_at_end=False, done=0, slices=0))
            summary = await self.compare_totals(entity)
        return summary

    async def compare_totals(self, entity: Entity) -> Summary:
        """Compare what was seen with the engine's total, after reading what was placed meanwhile, too."""
        first = self._numbers[entity]
        summary = await self._count_anew(entity)
        for _ in range(COUNTS - 1):
            if summary.agrees or summary.is_forgotten or summary.counted < summary.seen - summary.removed:
                break
            since = max(filter(None, (self._since, summary.read_from)))
            await self._run.rewind(entity, first)
            self._numbers[entity] = first
            await self._write_all(entity, None, since)
            summary = await self._count_anew(entity)
        return summary

    async def bury(self, entity: Entity, gone: Sequence[Found], read_at: datetime) -> None:
        """Ask for entities that the engine did not list, and mark those deleted that it no longer has."""
        answers = await self._engine.ask(entity, [found.source_id for found in gone])
        deleted = {answer.source_id for answer in answers if answer.outcome == "deleted"}
        part = Slice(
            entity=entity,
            slice=self._next_number(entity),
            read_at=read_at,
            next_position=None,
            counted=None,
            listed={},
            told=told(answers),
            found=[found for found in gone if found.source_id in deleted],
        )
        self._progress.wrote(await self._write(await self._made_ready(part, answers)))

    async def _count_anew(self, entity: Entity) -> Summary:
        """Return the summary as it is now."""
        return await self._run.sum_up(entity, await self._engine.count(entity, since=self._since))

    async def _sweep(self, cursor: Cursor) -> None:
        total = await self._engine.count(cursor.entity, since=self._since)
        self._progress.begin(cursor.entity, total, cursor.done)
        self._numbers[cursor.entity] = cursor.slice
        await self._run.rewind(cursor.entity, cursor.slice)
        if not cursor.is_at_end:
            await self._write_all(cursor.entity, cursor.position, self._since)

    async def _write_all(self, entity: Entity, position: str | None, since: datetime | None) -> None:
        """Write slice after slice, a few of them at once; receipts are left one by one."""
        written: deque[asyncio.Task[Receipt]] = deque()
        try:
            async with self._prepared(entity, position, since) as slices:
                async for ready in slices:
                    before = written[-1] if written else None
                    written.append(asyncio.create_task(self._write(ready, before)))
                    if len(written) == WRITTEN_AT_ONCE:
                        await self._note(await written.popleft())
            while written:
                await self._note(await written.popleft())
        except asyncio.CancelledError:
            for task in written:
                task.cancel()
            raise
        finally:
            await asyncio.gather(*written, return_exceptions=True)

    @asynccontextmanager
    async def _prepared(
        self, entity: Entity, position: str | None, since: datetime | None
    ) -> AsyncIterator[AsyncIterator[_Ready]]:
        """Give the slices in their order, ready to be written; the next ones are made ready meanwhile."""
        queue: asyncio.Queue[asyncio.Task[_Ready] | None] = asyncio.Queue(AHEAD)
        begun: set[asyncio.Task[_Ready]] = set()

        async def list_all() -> None:
            try:
                async for swept in self._listed(entity, position, since):
                    begun.add(task := asyncio.create_task(self._ready(entity, self._next_number(entity), swept)))
                    await queue.put(task)
            except Exception:
                await queue.put(None)
                raise
            await queue.put(None)

        async def take() -> AsyncIterator[_Ready]:
            while (task := await queue.get()) is not None:
                yield await task
                begun.discard(task)
            await listing

        listing = asyncio.create_task(list_all())
        try:
            yield take()
        finally:
            for task in (listing, *begun):
                task.cancel()
            await asyncio.gather(listing, *begun, return_exceptions=True)

    async def _listed(self, entity: Entity, position: str | None, since: datetime | None) -> AsyncIterator[Sweep]:
        limit = FIRST_SLICE
        while True:
            limit = min(limit, SLICE_SIZE)
            swept = await self._engine.sweep(entity, position=position, since=since, limit=limit)
            await self._run.require_present(swept.read_at)
            yield swept
            if swept.position is None:
                return
            position = swept.position
            limit *= 2

    async def _ready(self, entity: Entity, number: int, swept: Sweep) -> _Ready:
        listed = {
            "source_id": [fingerprint.source_id for fingerprint in swept.fingerprints],
            "source_hash": [self._engine.source_hash(fingerprint.hash) for fingerprint in swept.fingerprints],
        }
        part = Slice(entity, number, swept.read_at, swept.position, swept.counted, listed, told={}, found=[])
        differing = await self._run.compare(part)
        wanted = [found.source_id for found in differing]
        answers = await self._engine.ask(entity, wanted, swept.events) if self._fix else []
        found = [each for each in differing if each.cause is not None]
        return await self._made_ready(msgspec.structs.replace(part, told=told(answers), found=found), answers)

    async def _made_ready(self, part: Slice, answers: list[Answer]) -> _Ready:
        """Make what is to be written ready to be sent."""
        records = [record for answer in answers for record in answer.records] if self._fix else []
        await self._run.require_present(*(record.source_version for record in records))
        ready: list[_Lane] = []
        for lane in lanes(records, lambda record: [record]):
            ready.append(_Lane(lane, self._run.encoded(lane)))
            await asyncio.sleep(0)
        return _Ready(part, answers, ready)

    async def _write(self, ready: _Ready, before: "asyncio.Task[Receipt] | None" = None) -> Receipt:
        """Write a slice; leave its receipt, which looks at what stands in the tables, after that of the one before."""
        rest = ""
        if len(ready.lanes) == 1:
            rest = ready.lanes[0].text  # few records: they are written with the receipt
        else:
            try:
                await _together(*(self._apply(lane) for lane in ready.lanes))
            except (Reject, Await):
                ready = await self._without_refused(ready)
        if before is not None:
            await asyncio.wait([before])
        try:
            return await self._run.write(ready.part, rest)
        except (Reject, Await):
            return await self._run.write((await self._without_refused(ready)).part)

    async def _note(self, receipt: Receipt) -> None:
        self._progress.wrote(receipt)
        await self._run.growth.note(receipt.written)

    async def _apply(self, lane: _Lane) -> None:
        async with self._writers:
            await self._run.apply(lane.text)

    async def _without_refused(self, ready: _Ready) -> _Ready:
        """Write what can be written of a slice; return it with what the database refuses told as rejected."""
        refused: dict[str, str] = {}
        for lane in ready.lanes:
            refused |= await self._refused(lane.records)
        answers = [refuse(answer, refused) for answer in ready.answers]
        return _Ready(msgspec.structs.replace(ready.part, told=told(answers)), answers)

    async def _refused(self, records: Sequence[Record]) -> dict[str, str]:
        """Write records; return which of them the database refuses, found by halving, and why."""
        try:
            await self._run.apply(self._run.encoded(records))
        except (Reject, Await) as error:
            if len(records) == 1:
                return {records[0].source_id: error.reason}
            middle = len(records) // 2
            return {**await self._refused(records[:middle]), **await self._refused(records[middle:])}
        return {}

    def _next_number(self, entity: Entity) -> int:
        number = self._numbers[entity]
        self._numbers[entity] = number + 1
        return number


async def _together(*calls: Any) -> None:
    """Wait for all calls, also when one fails; then raise what the first failed with."""
    for failed in filter(None, await asyncio.gather(*calls, return_exceptions=True)):
        raise failed
