"""Inbox → tables. Drains what is there and returns counts; it does not wait for more.

A slice of events is claimed and mapped to records (pure; what an event only names is fetched, `sync/fetching.py`), then
parted by customer into lanes that are applied side by side (`sync/slices.py`). A lane is applied together with its
settling by one call, which is one transaction. Meanwhile the next slice is claimed and mapped, and no more than that
one. An event that cannot be mapped is settled with its reason; one that the database refuses is found by taking its
lane apart (`sync/apart.py`), so that it holds up nothing else. What failed for now is tried again when
`mirror.retry_schedule` says. If we die anywhere, the lease lapses and the slice is applied again, which changes
nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import structlog

from sync import inbox
from sync.apart import apply_apart, of_the_event
from sync.clocks import latest_version, told_too_early
from sync.database import Database
from sync.engines.base import Client, Fetch
from sync.errors import Await, Reject, Retry, Skip
from sync.fetching import Fetching, Shop
from sync.growth import Growth
from sync.inbox import Claimed, Settlement
from sync.records import Record
from sync.slices import lanes, newest_records

log = structlog.get_logger()

ATTEMPTS_TOGETHER = 3
"""A slice that failed so often, though only for now, is taken apart: one event may be the cause."""

FETCHING_SHARE = 0.3
"""Of a lease, what the fetching may take: the rest is for applying."""


LONGEST_WAIT = timedelta(hours=1)
"""So long what an engine read at a time still to come may wait for it."""

NEVER = datetime.min.replace(tzinfo=UTC)


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

    @property
    def version(self) -> datetime:
        """The latest of what it says."""
        return max((record.source_version for record in self.records), default=NEVER)


class _Lane(msgspec.Struct, frozen=True):
    """Events that are applied in one transaction."""

    mapped: Sequence[_Mapped]
    records: str
    """What they say, as `apply_events` takes it."""


class _Slice(msgspec.Struct, frozen=True):
    """What one claim took, ready to be applied."""

    token: UUID
    events: Sequence[Claimed]
    lanes: Sequence[_Lane]
    refused: Sequence[Settlement]
    """Events that cannot be mapped."""


class Drain:
    """Applies pending events. Create one for each worker; several may run at once, anywhere."""

    def __init__(
        self,
        database: Database,
        clients: Mapping[str, Client] | None = None,
        *,
        slice_size: int = 1000,
        lease: timedelta = timedelta(seconds=60),
    ) -> None:
        self._database = database
        self._clients = clients or {}
        self._slice_size = slice_size
        self._lease = lease
        self._shops: dict[UUID, Shop] = {}
        self._growth = Growth(database)

    async def run(self, stop: asyncio.Event | None = None) -> Counts:
        """Apply slices until nothing is due, or, after the slice in hand, until `stop` is set."""
        total = Counts()
        self._shops.clear()  # what admins changed of them counts from here on
        stop = stop or asyncio.Event()
        present = None if stop.is_set() else await self._take()
        while present is not None:
            present = await self._apply_and_take(present, stop, total)
        return total

    async def drain_slice(self) -> tuple[int, Counts]:
        """Claim, map and apply one slice; return how many events it had, and what became of them."""
        counts = Counts()
        taken = await self._take()
        await self._apply_slice(taken, counts)
        return len(taken.events), counts

    async def _take(self) -> _Slice:
        """Claim and map a slice."""
        token = uuid4()
        events = await inbox.claim(self._database, token, limit=self._slice_size, lease=self._lease)
        await self._load_integrations(events)
        mapped, refused = await self._of_now(*await self._map(events))
        return _Slice(token, events, [_lane(lane) for lane in lanes(mapped, lambda m: m.records)], refused)

    async def _apply_and_take(self, present: _Slice, stop: asyncio.Event, counts: Counts) -> _Slice | None:
        """Apply a slice and take the next meanwhile; return that, or None if there is none to be applied."""
        if len(present.events) < self._slice_size:
            await self._apply_slice(present, counts)
            return None
        taking = asyncio.create_task(self._take())
        try:
            await self._apply_slice(present, counts)
        except Exception:
            await self._give_back(taking)
            raise
        except asyncio.CancelledError:
            taking.cancel()
            raise
        if stop.is_set():
            await self._give_back(taking)
            return None
        return await taking

    async def _apply_slice(self, taken: _Slice, counts: Counts) -> None:
        await self._settle(taken.token, taken.refused, counts)
        applying = (self._apply(taken.token, lane, counts) for lane in taken.lanes)
        for failed in filter(None, await asyncio.gather(*applying, return_exceptions=True)):
            raise failed
        await self._growth.note(len(taken.events))

    async def _give_back(self, taking: "asyncio.Task[_Slice]") -> None:
        """Let others have a slice at once that nobody will apply here. If that fails, its lease lapses."""
        with suppress(Retry, Reject):
            taken = await taking
            await inbox.settle(
                self._database, taken.token, [Settlement(event.id, "retry", retry_after=0) for event in taken.events]
            )

    async def _load_integrations(self, events: Sequence[Claimed]) -> None:
        if all(event.integration_id in self._shops for event in events):
            return
        for row in await self._database.rows("list_integrations"):
            self._shops[row["id"]] = Shop.of(row, self._clients)

    async def _map(self, events: Sequence[Claimed]) -> tuple[list[_Mapped], list[Settlement]]:
        mapped: list[_Mapped] = []
        refused: list[Settlement] = []
        named: list[tuple[Claimed, Fetch]] = []
        for event in events:
            try:
                mapped.append(_Mapped(event, self._records(event)))
            except Fetch as wanted:
                named.append((event, wanted))
            except Exception as error:
                refused.append(_refusal(event, error))
        if named:
            fetching = Fetching(self._lease.total_seconds() * FETCHING_SHARE)
            answers = await fetching.fetch_all([(self._shops[e.integration_id], wanted) for e, wanted in named])
            for (event, _), answer in zip(named, answers, strict=True):
                if isinstance(answer, BaseException):
                    refused.append(_refusal(event, answer))
                else:
                    mapped.append(_Mapped(event, answer))
        return mapped, refused

    async def _of_now(self, mapped: list[_Mapped], refused: list[Settlement]) -> tuple[list[_Mapped], list[Settlement]]:
        """Refuse what was read at a time that is still to come, too."""
        latest = await latest_version(self._database, (m.version for m in mapped))
        ahead = [m for m in mapped if m.version > latest]
        if not ahead:
            return mapped, refused
        early = [_put_off(m, m.version - latest) for m in ahead]
        return [m for m in mapped if m.version <= latest], refused + early

    def _records(self, event: Claimed) -> list[Record]:
        shop = self._shops.get(event.integration_id)
        if shop is None:
            raise Retry("the integration is not active: activate it in mirror.integrations")
        if shop.engine is None:
            raise Retry(f"this version does not know the engine {shop.engine_name}: install a newer mirror")
        return shop.engine.map(event.event_type, event.payload.encode(), shop.context)

    async def _settle(self, token: UUID, settlements: Sequence[Settlement], counts: Counts) -> None:
        if settlements:
            await inbox.settle(self._database, token, settlements)
        for settlement in settlements:
            _count(counts, settlement)

    async def _apply(self, token: UUID, lane: _Lane, counts: Counts) -> None:
        """Apply events; where the database refuses them, take them apart, down to the one it refuses."""
        mapped = lane.mapped
        try:
            changed = await self._database.call(
                "apply_events", p_claim=token, p_records=lane.records, p_settlements=_as_applied(mapped)
            )
        except (Reject, Retry) as refusal:
            error = of_the_event(refusal)
            if len(mapped) > 1 and _may_be_one(error, mapped):
                await self._apply_apart(token, mapped, counts)
            elif isinstance(error, Reject):
                await self._settle(token, [Settlement(mapped[0].event.id, "dead", error.reason)], counts)
            else:
                await self._settle(token, _put_back(mapped, error), counts)
        else:
            counts.applied += len(mapped)
            counts.add(msgspec.json.decode(changed, type=Counts))

    async def _apply_apart(self, token: UUID, mapped: Sequence[_Mapped], counts: Counts) -> None:
        later: list[Settlement] = []
        for piece in await apply_apart(self._database, token, mapped, document=_piece, may_be_one=_may_be_one):
            match piece.refusal:
                case None:
                    counts.add(Counts(applied=len(piece.events), customers=piece.customers, orders=piece.orders))
                case Reject():
                    counts.dead += len(piece.events)
                case Retry() as retry:
                    later += _put_back(piece.events, retry)
        await self._settle(token, later, counts)


def _put_off(mapped: _Mapped, excess: timedelta) -> Settlement:
    """Let what was read a little too early wait for its time; what is hours ahead would wait for nothing."""
    reason = told_too_early(mapped.version)
    if excess > LONGEST_WAIT:
        return Settlement(mapped.event.id, "dead", reason)
    return Settlement(mapped.event.id, "retry", reason, retry_after=excess.total_seconds() + 1)


def _refusal(event: Claimed, error: BaseException) -> Settlement:
    """Return what becomes of an event of which no records could be had."""
    match error:
        case Retry():
            return Settlement(event.id, "retry", error.reason, retry_after=error.after)
        case Skip():
            return Settlement(event.id, "skipped", error.reason)
        case Reject():
            return Settlement(event.id, "dead", error.reason)
        case asyncio.CancelledError():
            raise error
    log.error("drain.fault", inbox_id=str(event.id), action="the event is dead, the others go on", exc_info=error)
    return Settlement(event.id, "dead", f"a fault of the mirror: {type(error).__name__}; see its log")


def _put_back(mapped: Sequence[_Mapped], retry: Retry) -> list[Settlement]:
    """Give events back for later. If that fails, too, their lease lapses: nothing is lost."""
    log.warning("drain.retry", events=len(mapped), reason=retry.reason)
    return [Settlement(m.event.id, "retry", retry.reason, retry_after=retry.after) for m in mapped]


def _may_be_one(error: Reject | Retry, mapped: Sequence[_Mapped]) -> bool:
    """Tell whether to look for a single cause: at once, but if it passes by itself only after some attempts."""
    return isinstance(error, Reject | Await) or any(m.event.attempts > ATTEMPTS_TOGETHER for m in mapped)


def _count(counts: Counts, settlement: Settlement) -> None:
    name = "retried" if settlement.outcome == "retry" else settlement.outcome
    setattr(counts, name, getattr(counts, name) + 1)


def _lane(mapped: Sequence[_Mapped]) -> _Lane:
    return _Lane(mapped, newest_records((m.event.integration_id, record) for m in mapped for record in m.records))


def _piece(mapped: Sequence[_Mapped]) -> dict[str, msgspec.Raw]:
    """Return events as a piece for `apply_apart`."""
    texts = {"records": _lane(mapped).records, "settlements": _as_applied(mapped)}
    return {name: msgspec.Raw(text.encode()) for name, text in texts.items()}


def _as_applied(mapped: Sequence[_Mapped]) -> str:
    return inbox.settlement_columns([Settlement(m.event.id, "applied") for m in mapped])
