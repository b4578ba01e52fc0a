"""Inbox → tables. Drains what is there and returns counts; it does not wait for more.

A slice of events is claimed, mapped to records (pure), and applied together with its settling by one call,
which is one transaction. Of several states of one entity in a slice only the newest is sent. An event that
cannot be mapped is settled with its reason; one that the database refuses is found by halving the slice, so
that it holds up nothing else. If we die anywhere, the lease lapses and the slice is applied again, which
changes nothing.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import structlog

from sync import inbox
from sync.columns import record_columns
from sync.database import Database
from sync.engines.base import Context
from sync.engines.registry import ENGINES
from sync.errors import Await, Reject, Retry, Skip
from sync.inbox import Claimed, Settlement
from sync.records import Deletion, Record

log = structlog.get_logger()

ATTEMPTS_TOGETHER = 3
"""A slice that failed so often, though only for now, is taken apart: one event may be the cause."""

RETRY_SECONDS = (0.2, 1.0, 5.0, 30.0, 120.0, 600.0)
"""Wait before the next attempt, by attempts made; the last holds for all that follow."""


class Counts(msgspec.Struct):
    """What a drain did, in events, and how many rows it changed."""

    applied: int = 0
    skipped: int = 0
    dead: int = 0
    retried: int = 0
    customers: int = 0
    orders: int = 0

    def add(self, other: "Counts") -> None:
        """Add another's counts to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class _Mapped(msgspec.Struct, frozen=True):
    """A claimed event with what it says."""

    event: Claimed
    records: list[Record]


class Drain:
    """Applies pending events. Create one for each worker; several may run at once, anywhere."""

    def __init__(self, database: Database, *, slice_size: int = 500, lease: timedelta = timedelta(seconds=60)) -> None:
        self._database = database
        self._slice_size = slice_size
        self._lease = lease
        self._integrations: dict[UUID, tuple[str, Context]] = {}

    async def run(self, stop: asyncio.Event | None = None) -> Counts:
        """Apply slices until nothing is due, or, after the slice in hand, until `stop` is set."""
        total = Counts()
        self._integrations.clear()  # what admins changed of them counts from here on
        while not (stop and stop.is_set()):
            claimed, counts = await self.drain_slice()
            total.add(counts)
            if claimed < self._slice_size:
                break
        return total

    async def drain_slice(self) -> tuple[int, Counts]:
        """Claim, map and apply one slice; return how many events it had, and what became of them."""
        token = uuid4()
        events = await inbox.claim(self._database, token, limit=self._slice_size, lease=self._lease)
        counts = Counts()
        if events:
            await self._load_integrations(events)
            mapped, refused = self._map(events)
            await self._settle(token, refused, counts)
            await self._apply(token, mapped, counts)
        return len(events), counts

    async def _load_integrations(self, events: Sequence[Claimed]) -> None:
        if all(event.integration_id in self._integrations for event in events):
            return
        for row in await self._database.rows("list_integrations"):
            context = Context(phone_region=row["phone_region"], money_precision=row["money_precision"])
            self._integrations[row["id"]] = (row["engine"], context)

    def _map(self, events: Sequence[Claimed]) -> tuple[list[_Mapped], list[Settlement]]:
        mapped: list[_Mapped] = []
        refused: list[Settlement] = []
        for event in events:
            try:
                mapped.append(_Mapped(event, self._records(event)))
            except Retry as retry:
                refused.append(Settlement(event.id, "retry", retry.reason, retry_after=RETRY_SECONDS[-1]))
            except Skip as skip:
                refused.append(Settlement(event.id, "skipped", skip.reason))
            except Reject as reject:
                refused.append(Settlement(event.id, "dead", reject.reason))
            except Exception as error:
                log.exception("drain.fault", inbox_id=str(event.id), action="the event is dead, the others go on")
                refused.append(
                    Settlement(event.id, "dead", f"a fault of the mirror: {type(error).__name__}; see its log")
                )
        return mapped, refused

    def _records(self, event: Claimed) -> list[Record]:
        engine, context = self._integrations.get(event.integration_id, (None, None))
        if engine is None or context is None:
            raise Retry("the integration is not active: activate it in mirror.integrations")
        if engine not in ENGINES:
            raise Retry(f"this version does not know the engine {engine}: install a newer mirror")
        return ENGINES[engine].map(event.event_type, event.payload.encode(), context)

    async def _settle(self, token: UUID, settlements: Sequence[Settlement], counts: Counts) -> None:
        if settlements:
            await inbox.settle(self._database, token, settlements)
        for settlement in settlements:
            _count(counts, settlement)

    async def _apply(self, token: UUID, mapped: Sequence[_Mapped], counts: Counts) -> None:
        """Apply events; where the database refuses them, halve, down to the one it refuses."""
        if not mapped:
            return
        settlements = [Settlement(m.event.id, "applied") for m in mapped]
        try:
            changed = await self._database.call(
                "apply_events",
                p_claim=token,
                p_records=_newest(mapped),
                p_settlements=inbox.settlement_columns(settlements),
            )
        except (Reject, Retry) as error:
            if len(mapped) > 1 and _may_be_one(error, mapped):
                middle = len(mapped) // 2
                await self._apply(token, mapped[:middle], counts)
                await self._apply(token, mapped[middle:], counts)
            elif isinstance(error, Reject):
                await self._settle(token, [Settlement(mapped[0].event.id, "dead", error.reason)], counts)
            else:
                await self._put_back(token, mapped, error, counts)
        else:
            counts.applied += len(mapped)
            counts.add(msgspec.json.decode(changed, type=Counts))

    async def _put_back(self, token: UUID, mapped: Sequence[_Mapped], retry: Retry, counts: Counts) -> None:
        """Give events back for later. If that fails, too, their lease lapses: nothing is lost."""
        log.warning("drain.retry", events=len(mapped), reason=retry.reason)
        await self._settle(
            token,
            [
                Settlement(m.event.id, "retry", retry.reason, retry_after=_wait_seconds(m.event.attempts))
                for m in mapped
            ],
            counts,
        )


def _may_be_one(error: Reject | Retry, mapped: Sequence[_Mapped]) -> bool:
    """Tell whether to look for a single cause: at once, but if it passes by itself only after some attempts."""
    return isinstance(error, Reject | Await) or any(m.event.attempts > ATTEMPTS_TOGETHER for m in mapped)


def _wait_seconds(attempts: int) -> float:
    return RETRY_SECONDS[min(attempts, len(RETRY_SECONDS)) - 1]


def _count(counts: Counts, settlement: Settlement) -> None:
    name = "retried" if settlement.outcome == "retry" else settlement.outcome
    setattr(counts, name, getattr(counts, name) + 1)


def _newest(mapped: Sequence[_Mapped]) -> str:
    """Return the newest record of each entity as the JSON that `apply_events` takes."""
    by_integration: dict[UUID, dict[tuple[str, str], Record]] = {}
    for m in mapped:
        newest = by_integration.setdefault(m.event.integration_id, {})
        for record in m.records:
            known = newest.get(key := _key(record))
            if known is None or known.source_version < record.source_version:
                newest[key] = record
    documents = [
        {"integration_id": integration_id, **record_columns(newest.values())}
        for integration_id, newest in by_integration.items()
    ]
    return msgspec.json.encode(documents).decode()


def _key(record: Record) -> tuple[str, str]:
    """Return what a record is about. A state and a deletion do not replace each other: the later of each counts."""
    kind = f"deleted {record.entity}" if isinstance(record, Deletion) else type(record).__name__
    return kind, record.source_id
