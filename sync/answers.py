"""What an engine says of the entities that it is asked for, mapped: one answer for each, whatever becomes of it.

An engine that asks to come again later is asked again then. What cannot be mapped is an answer, too, with its reason:
it names what differs, and holds up nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import structlog

from sync.engines.base import Client, Context, Engine, Event, Fetch, Sweep
from sync.errors import Reject, Retry, Skip
from sync.records import Deletion, Entity, Record
from sync.runs import Told

log = structlog.get_logger()

MAPPED_AT_ONCE = 50
"""After so many documents answers of the database are looked at: a connection should not wait for the next slice."""
WAITS = 5
"""How often in a row the engine may ask a run to come again later."""
LONGEST_WAIT = 3600.0
"""Seconds. An engine that wants more is left alone: the run ends, and goes on when it is begun again."""

T = TypeVar("T")


class Source(msgspec.Struct, frozen=True):
    """An integration whose engine can be asked."""

    integration_id: UUID
    slug: str
    engine: Engine
    context: Context
    client: Client

    def chosen(self, entities: tuple[Entity, ...] | None) -> tuple[Entity, ...]:
        """Return which of what the engine has is asked for: all, unless it is said; raise Reject for what it lacks."""
        lacking = [entity for entity in entities or () if entity not in self.engine.entities]
        if lacking:
            has = ", ".join(self.engine.entities)
            raise Reject(f"{self.slug} has nothing of the kind {', '.join(lacking)}; what it has is {has}")
        return entities or self.engine.entities


class Answer(msgspec.Struct, frozen=True):
    """What an engine said of an entity that it was asked for."""

    source_id: str
    outcome: Told
    records: list[Record] = []
    reason: str | None = None


class Obliging:
    """A source that waits as long as its engine asks it to, where the engine's client does not have the patience."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._client = source.client
        self._mapping = asyncio.Lock()

    async def count(self, entity: Entity, *, since: datetime | None) -> int:
        return await _as_asked(lambda: self._client.count(entity, since=since))

    async def sweep(self, entity: Entity, *, position: str | None, since: datetime | None, limit: int) -> Sweep:
        return await _as_asked(lambda: self._client.sweep(entity, position=position, since=since, limit=limit))

    def source_hash(self, listed: str) -> str:
        """Return the hash of the record that a listed document would be mapped to."""
        return self._source.engine.source_hash(listed, self._source.context)

    async def ask(self, entity: Entity, source_ids: Sequence[str], listed: Sequence[Event] = ()) -> list[Answer]:
        """Ask for entities, but where a list has told all of them; return one answer for each."""
        if not source_ids:
            return []
        fetched = listed or await _as_asked(lambda: self._client.fetch(entity, source_ids))
        events = {event.entity_id: event for event in fetched}
        answers: list[Answer] = []
        async with self._mapping:  # slice after slice: the first one is waited for
            for position, source_id in enumerate(source_ids, 1):
                answers.append(self._answer(source_id, events.get(source_id)))
                if position % MAPPED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        return answers

    def _answer(self, source_id: str, event: Event | None) -> Answer:
        if event is None:
            return Answer(source_id, "rejected", reason="the engine lists it, and cannot read it")
        try:
            records = self._source.engine.map(event.event_type, bytes(event.payload), self._source.context)
        except Fetch as wanted:
            return Answer(source_id, "rejected", reason=wanted.reason)
        except Skip as skip:
            return Answer(source_id, "skipped", reason=skip.reason)
        except Reject as reject:
            return Answer(source_id, "rejected", reason=reject.reason)
        except Exception as error:
            log.exception("run.fault", source_id=source_id, action="it is rejected, the others go on")
            reason = f"a fault of the mirror: {type(error).__name__}; see its log"
            return Answer(source_id, "rejected", reason=reason)
        is_deleted = all(isinstance(record, Deletion) for record in records)
        return Answer(source_id, "deleted" if is_deleted else "state", records)


def refuse(answer: Answer, refused: dict[str, str]) -> Answer:
    """Return the answer, rejected where the database refuses what it says."""
    reason = refused.get(answer.source_id)
    return answer if reason is None else msgspec.structs.replace(answer, outcome="rejected", reason=reason)


def told(answers: Sequence[Answer]) -> dict[str, list[Any]]:
    """Return answers as `mirror.told_columns`."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("source_id", "outcome", "source_version", "source_hash", "reason")
    }
    for answer in answers:
        record = next((record for record in answer.records if record.source_id == answer.source_id), None)
        columns["source_id"].append(answer.source_id)
        columns["outcome"].append(answer.outcome)
        columns["source_version"].append(record and record.source_version)
        columns["source_hash"].append(None if record is None or isinstance(record, Deletion) else record.source_hash)
        columns["reason"].append(answer.reason)
    return columns


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
