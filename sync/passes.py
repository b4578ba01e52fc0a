"""From one end of an engine to the other, slice by slice: list, compare, fetch what differs, write, receipt.

Backfill and reconcile are this. While a slice is written the next ones are listed, compared and fetched, and no more
than a few of them, so that memory stays flat however large the shop is. What a hook has brought meanwhile is newer, and
wins: a slice's version is the engine's clock before it was read. What cannot be mapped, or what the database refuses,
is named in the receipt and holds up nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec
import structlog

from sync.engines.base import Client, Context, Engine, Event, Sweep
from sync.errors import Await, Reject, Retry, Skip
from sync.records import Deletion, Entity, Record
from sync.runs import Cursor, Found, Receipt, Run, Slice, Summary, Told
from sync.slices import lanes

log = structlog.get_logger()

SLICE_SIZE = 1000
AHEAD = 2
"""So many slices are made ready while one is written."""
WAITS = 5
"""How often in a row the engine may ask a run to come again later."""
LONGEST_WAIT = 3600.0
"""Seconds. An engine that wants more is left alone: the run ends, and goes on when it is begun again."""
COUNTS = 3
"""How often the engine's total is asked for before what it says is taken for wrong."""


T = TypeVar("T")


class Source(msgspec.Struct, frozen=True):
    """An integration whose engine can be asked."""

    integration_id: UUID
    slug: str
    engine: Engine
    context: Context
    client: Client


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


class _Answer(msgspec.Struct, frozen=True):
    """What an engine said of an entity that it was asked for."""

    source_id: str
    outcome: Told
    records: list[Record] = []
    reason: str | None = None


class _Ready(msgspec.Struct, frozen=True):
    """A slice, ready to be written."""

    part: Slice
    answers: list[_Answer]


class _Obliging:
    """A client that waits as long as the engine asks it to, where the one it stands for does not have the patience."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def count(self, entity: Entity, *, since: datetime | None) -> int:
        return await _as_asked(lambda: self._client.count(entity, since=since))

    async def sweep(self, entity: Entity, *, position: str | None, since: datetime | None, limit: int) -> Sweep:
        return await _as_asked(lambda: self._client.sweep(entity, position=position, since=since, limit=limit))

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        return await _as_asked(lambda: self._client.fetch(entity, source_ids))


class _Applied(msgspec.Struct, frozen=True):
    """A slice without its receipt."""

    ready: _Ready
    records: Sequence[Record] = ()
    """What is still to be written, with the receipt."""


class Passes:
    """Reads an engine within a run."""

    def __init__(self, run: Run, source: Source, *, fix: bool, since: datetime | None, progress: Progress) -> None:
        self._run = run
        self._source = source
        self._client = _Obliging(source.client)
        self._fix = fix
        self._since = since
        self._progress = progress
        self._numbers: dict[Entity, int] = {}
        """The next slice's number."""

    async def read(self, entity: Entity) -> Summary:
        """Read an entity from the run's cursor to its end; return what was found, against what the engine counts.

        What did not agree is read once more, from the first slice that did not: by then it may.
        """
        await self._sweep(self._run.cursors[entity])
        cursor = await self._run.cursor(entity)
        if self._fix and not cursor.is_at_end:
            log.info("run.again", entity=entity, slice=cursor.slice, why="its receipt does not agree")
            await self._sweep(cursor)
        summary = await self._compare_totals(entity)
        if not summary.agrees:
            log.info("run.again", entity=entity, slice=0, why="the engine counts more or fewer than it listed")
            await self._sweep(Cursor(entity, 0, None, is_at_end=False, done=0, slices=0))
            summary = await self._compare_totals(entity)
        return summary

    async def count_anew(self, entity: Entity) -> Summary:
        """Return the summary as it is now."""
        return await self._run.sum_up(entity, await self._client.count(entity, since=self._since))

    async def bury(self, entity: Entity, gone: Sequence[Found], read_at: datetime) -> None:
        """Ask for entities that the engine did not list, and mark those deleted that it no longer has."""
        answers = await self._fetch(entity, [found.source_id for found in gone])
        deleted = {answer.source_id for answer in answers if answer.outcome == "deleted"}
        part = Slice(
            entity=entity,
            slice=self._next_number(entity),
            read_at=read_at,
            next_position=None,
            counted=None,
            listed={},
            told=_told(answers),
            found=[found for found in gone if found.source_id in deleted],
        )
        await self._write(_Ready(part, answers))

    async def _compare_totals(self, entity: Entity) -> Summary:
        """Compare what was seen with the engine's total, after reading what was placed meanwhile, too."""
        first = self._numbers[entity]
        summary = await self.count_anew(entity)
        for _ in range(COUNTS - 1):
            if summary.agrees or summary.is_forgotten or summary.counted < summary.seen - summary.removed:
                break
            since = max(filter(None, (self._since, summary.read_from)))
            await self._run.rewind(entity, first)
            self._numbers[entity] = first
            await self._write_all(entity, None, since)
            summary = await self.count_anew(entity)
        return summary

    async def _sweep(self, cursor: Cursor) -> None:
        total = await self._client.count(cursor.entity, since=self._since)
        self._progress.begin(cursor.entity, total, cursor.done)
        self._numbers[cursor.entity] = cursor.slice
        await self._run.rewind(cursor.entity, cursor.slice)
        if not cursor.is_at_end:
            await self._write_all(cursor.entity, cursor.position, self._since)

    async def _write_all(self, entity: Entity, position: str | None, since: datetime | None) -> None:
        """Write slice after slice; the receipt of one is left while the records of the next are written."""
        leaving: asyncio.Task[None] | None = None
        try:
            async with self._prepared(entity, position, since) as slices:
                async for ready in slices:
                    applied = await self._apply(ready)
                    if leaving is not None:
                        await leaving
                    leaving = asyncio.create_task(self._leave(applied))
            if leaving is not None:
                await leaving
        except asyncio.CancelledError:
            if leaving is not None:
                leaving.cancel()
            raise
        finally:
            if leaving is not None:
                await asyncio.gather(leaving, return_exceptions=True)

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
        while True:
            swept = await self._client.sweep(entity, position=position, since=since, limit=SLICE_SIZE)
            yield swept
            if swept.position is None:
                return
            position = swept.position

    async def _ready(self, entity: Entity, number: int, swept: Sweep) -> _Ready:
        listed = {
            "source_id": [fingerprint.source_id for fingerprint in swept.fingerprints],
            "source_hash": [fingerprint.source_hash for fingerprint in swept.fingerprints],
        }
        part = Slice(entity, number, swept.read_at, swept.position, swept.counted, listed, told={}, found=[])
        differing = await self._run.compare(part)
        answers = await self._fetch(entity, [found.source_id for found in differing]) if self._fix else []
        found = [each for each in differing if each.cause is not None]
        return _Ready(msgspec.structs.replace(part, told=_told(answers), found=found), answers)

    async def _fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[_Answer]:
        """Ask for entities; return one answer for each."""
        if not source_ids:
            return []
        events = {event.entity_id: event for event in await self._client.fetch(entity, source_ids)}
        return [self._answer(source_id, events.get(source_id)) for source_id in source_ids]

    def _answer(self, source_id: str, event: Event | None) -> _Answer:
        if event is None:
            return _Answer(source_id, "rejected", reason="the engine lists it, and cannot read it")
        try:
            records = self._source.engine.map(event.event_type, bytes(event.payload), self._source.context)
        except Skip as skip:
            return _Answer(source_id, "skipped", reason=skip.reason)
        except Reject as reject:
            return _Answer(source_id, "rejected", reason=reject.reason)
        except Exception as error:
            log.exception("run.fault", source_id=source_id, action="it is rejected, the others go on")
            reason = f"a fault of the mirror: {type(error).__name__}; see its log"
            return _Answer(source_id, "rejected", reason=reason)
        is_deleted = all(isinstance(record, Deletion) for record in records)
        return _Answer(source_id, "deleted" if is_deleted else "state", records)

    async def _write(self, ready: _Ready) -> None:
        """Write a slice and leave its receipt."""
        await self._leave(await self._apply(ready))

    async def _apply(self, ready: _Ready) -> _Applied:
        """Write the records of a large slice, over two connections. A small one's are written with its receipt."""
        records = [record for answer in ready.answers for record in answer.records] if self._fix else []
        parted = lanes(records, lambda record: [record])
        if len(parted) < 2:
            return _Applied(ready, records)
        try:
            await _together(*(self._run.apply(lane) for lane in parted))
        except (Reject, Await):
            return _Applied(await self._without_refused(ready, parted))
        return _Applied(ready)

    async def _leave(self, applied: _Applied) -> None:
        """Leave a slice's receipt, which looks at what stands in the tables."""
        part, records = applied.ready.part, applied.records
        try:
            receipt = await self._run.write(part, records)
        except (Reject, Await):
            ready = await self._without_refused(applied.ready, [records])
            receipt = await self._run.write(ready.part)
        self._progress.wrote(receipt)

    async def _without_refused(self, ready: _Ready, parted: Sequence[Sequence[Record]]) -> _Ready:
        """Write what can be written of a slice; return it with what the database refuses told as rejected."""
        refused: dict[str, str] = {}
        for lane in parted:
            refused |= await self._refused(lane)
        answers = [_refuse(answer, refused) for answer in ready.answers]
        return _Ready(msgspec.structs.replace(ready.part, told=_told(answers)), answers)

    async def _refused(self, records: Sequence[Record]) -> dict[str, str]:
        """Write records; return which of them the database refuses, found by halving, and why."""
        try:
            await self._run.apply(records)
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


async def _as_asked(call: Callable[[], Awaitable[T]]) -> T:
    """Return what the call returns; where the engine says when to come again, come again then."""
    for _ in range(WAITS):
        try:
            return await call()
        except Retry as retry:
            if retry.after is None or retry.after > LONGEST_WAIT:
                raise
            log.warning("run.waits", seconds=retry.after, reason=retry.reason)
            await asyncio.sleep(retry.after)
    return await call()


def _refuse(answer: _Answer, refused: dict[str, str]) -> _Answer:
    reason = refused.get(answer.source_id)
    return answer if reason is None else msgspec.structs.replace(answer, outcome="rejected", reason=reason)


def _told(answers: Sequence[_Answer]) -> dict[str, list[Any]]:
    """Return answers as `mirror.told_columns`."""
    told: dict[str, list[Any]] = {
        name: [] for name in ("source_id", "outcome", "source_version", "source_hash", "reason")
    }
    for answer in answers:
        record = next((record for record in answer.records if record.source_id == answer.source_id), None)
        told["source_id"].append(answer.source_id)
        told["outcome"].append(answer.outcome)
        told["source_version"].append(record and record.source_version)
        told["source_hash"].append(None if record is None or isinstance(record, Deletion) else record.source_hash)
        told["reason"].append(answer.reason)
    return told


async def _together(*calls: Any) -> None:
    """Wait for all calls, also when one fails; then raise what the first failed with."""
    for failed in filter(None, await asyncio.gather(*calls, return_exceptions=True)):
        raise failed
