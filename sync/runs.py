"""Runs: an engine read from end to end, slice by slice, with a receipt for each.

A run is in the hands of one process at a time, by a claim that is renewed while the process lives and lapses when it
dies. Every rule of what a slice is compared with, of when a receipt agrees and of where the cursor stands is in
`sql/40_functions/7*`: here are its verbs, tried again while the database is away.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

import msgspec
import structlog
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from sync.clocks import latest_version, told_too_early
from sync.database import Database
from sync.deadline import within
from sync.errors import Await, Reject, Retry, SyncError
from sync.growth import Growth
from sync.records import Entity, Record
from sync.slices import newest_records

log = structlog.get_logger()

Kind = Literal["backfill", "reconcile"]
State = Literal["running", "complete", "drifted", "incomplete", "refused"]
Told = Literal["state", "deleted", "skipped", "rejected"]

LEASE_SECONDS = 20.0
"""After so long, the run of a process that died may be gone on with."""
PATIENCE_SECONDS = 60.0
"""So long the database may be away before a run gives up."""
LEAVE_SECONDS = 5.0

T = TypeVar("T")


class Busy(Retry):
    """Another run of the integration is in hand."""


class Options(msgspec.Struct, frozen=True, omit_defaults=False):
    """What a run is asked for."""

    entities: tuple[Entity, ...]
    since: datetime | None = None
    """Only what was placed, registered or touched since then."""
    is_full: bool = True
    fix: bool = True
    """Write what differs; otherwise only look."""
    allow_gone: float | None = None
    """Share of all that may be gone at once; None: as the integration says."""


class Cursor(msgspec.Struct, frozen=True):
    """How far a run has read an entity."""

    entity: Entity
    slice: int
    position: str | None
    is_at_end: bool
    done: int
    """Entities before the position."""
    slices: int
    """How many slices were read, the later ones too."""


class Found(msgspec.Struct, frozen=True):
    """An entity that differs from the engine, and how it came to."""

    source_id: str
    state: Literal["missing", "stale", "gone"]
    cause: str | None = None
    detail: str | None = None


class Difference(msgspec.Struct, frozen=True):
    """An entity that still differs, and why."""

    source_id: str
    reason: str | None


class Receipt(msgspec.Struct, frozen=True):
    """What the engine had in a slice, and what became of it here."""

    entity: Entity
    slice: int
    counted: int
    listed: int
    written: int
    unchanged: int
    skipped: int
    vanished: int
    tombstoned: int
    rejected: int
    source_hash: str
    content_hash: str
    is_complete: bool
    differing: list[Difference]


class Summary(msgspec.Struct, frozen=True):
    """What a run found of an entity in all."""

    entity: Entity
    counted: int
    seen: int
    removed: int
    missing: int
    stale: int
    gone: int
    on_its_way: int
    never_sent: int
    differing: int
    is_complete: bool
    is_forgotten: bool
    read_from: datetime | None

    @property
    def agrees(self) -> bool:
        """Whether the engine counts in all as many as it listed, but for those that were removed meanwhile."""
        return not self.is_forgotten and self.counted == self.seen - self.removed


class Gone(msgspec.Struct, frozen=True):
    """A page of what is here and was not listed."""

    live: int
    last: str | None
    count: int
    gone: list[Found]


class Ending(msgspec.Struct, frozen=True):
    """What a run came to."""

    state: State
    reason: str | None


class Slice(msgspec.Struct, frozen=True):
    """What was read of an engine in one go, as `mirror.write_slice` takes it."""

    entity: Entity
    slice: int
    read_at: datetime
    next_position: str | None
    counted: int | None
    """None: of what was found gone, nobody counted."""
    listed: dict[str, list[str]]
    told: dict[str, list[Any]]
    found: list[Found]


class _Begun(msgspec.Struct, frozen=True):
    run_id: UUID | None = None
    cursors: list[Cursor] = []
    busy: str | None = None
    seconds: float = 0


class Run:
    """A run that we have in hand."""

    def __init__(self, database: Database, integration_id: UUID, claim: UUID, begun: _Begun) -> None:
        self._database = database
        self._integration_id = integration_id
        self._run = {"p_run_id": begun.run_id}
        self._held = {**self._run, "p_claim": claim}
        self.cursors = {cursor.entity: cursor for cursor in begun.cursors}
        self.growth = Growth(database)

    async def compare(self, part: Slice) -> list[Found]:
        """Return what is not here as the slice lists it."""
        return await self._ask("compare_slice", list[Found], **self._run, p_slice=_encoded(part))

    def encoded(self, records: Sequence[Record]) -> str:
        """Return records as `apply` and `write` take them."""
        return newest_records((self._integration_id, record) for record in records)

    async def apply(self, records: str) -> None:
        """Write records where they are newer than what is there; raise Reject or Await if the database refuses them."""
        await self._call("apply_records", p_records=records)

    async def write(self, part: Slice, records: str = "") -> Receipt:
        """Write records, look at what stands there then, and leave a receipt: all or nothing."""
        return await self._ask("write_slice", Receipt, **self._held, p_slice=_encoded(part), p_records=records or None)

    async def require_present(self, *versions: datetime) -> None:
        """Raise Reject if the engine told anything of a moment that is still to come."""
        latest = await _patient(lambda: latest_version(self._database, versions))
        for version in versions:
            if version > latest:
                raise Reject(told_too_early(version))

    async def rewind(self, entity: Entity, number: int) -> None:
        """Let the slices from this one on be read again."""
        await self._call("rewind_run", **self._held, p_entity=entity, p_slice=number)

    async def cursor(self, entity: Entity) -> Cursor:
        """Return how far the run has come."""
        return await self._ask("read_cursor", Cursor, **self._run, p_entity=entity)

    async def sum_up(self, entity: Entity, counted: int) -> Summary:
        """Add up what was found, against what the engine counts in all."""
        return await self._ask("sum_up", Summary, **self._held, p_entity=entity, p_counted=counted)

    async def find_gone(self, entity: Entity, after: str, *, only_count: bool = False) -> Gone:
        """Return what is here and was not listed, among the rows that follow an id."""
        return await self._ask("find_gone", Gone, **self._run, p_entity=entity, p_after=after, p_is_count=only_count)

    async def refuse_gone(self, entity: Entity, gone: int, live: int) -> str | None:
        """Return why so many may not be taken for gone, if they may not."""
        refusal: str | None = await self._call("refuse_gone", **self._run, p_entity=entity, p_gone=gone, p_live=live)
        return refusal

    async def found(self, entity: Entity) -> list[Found]:
        """Return examples of what was found to differ."""
        return await self._ask("read_found", list[Found], **self._run, p_entity=entity)

    async def differing(self, entity: Entity) -> list[Difference]:
        """Return what still differs, or the first few hundred of it."""
        return await self._ask("read_differing", list[Difference], **self._run, p_entity=entity)

    async def finish(self, refused: str | None = None) -> Ending:
        """End the run and return what it came to."""
        return await self._ask("finish_run", Ending, **self._held, p_refused=refused)

    async def leave(self, reason: str) -> None:
        """End the run because it cannot go on. If the database is away, its claim lapses."""
        with suppress(SyncError):
            await within(LEAVE_SECONDS, self._database.call("leave_run", **self._held, p_reason=reason))

    async def keep(self) -> None:
        """Renew the claim until cancelled."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            try:
                await self._database.call("keep_run", **self._held, p_lease_seconds=LEASE_SECONDS)
            except SyncError as error:
                log.warning("run.not_kept", reason=error.reason, action="tried again in a few seconds")

    async def _ask(self, function: str, answer: type[T], **arguments: Any) -> T:
        return msgspec.json.decode(await self._call(function, **arguments), type=answer)

    async def _call(self, function: str, **arguments: Any) -> Any:
        return await _patient(lambda: self._database.call(function, **arguments))


@asynccontextmanager
async def open_run(  # noqa: PLR0913 - each says something else of the run
    database: Database,
    integration_id: UUID,
    kind: Kind,
    options: Options,
    *,
    restart: bool = False,
    waits: Callable[[str], None] | None = None,
) -> AsyncIterator[Run]:
    """Have a run in hand while this lasts; a backfill that was not finished is gone on with, unless restarted.

    While another run of the integration is in hand it waits for that to end, or for a dead process's claim to lapse,
    and tells `waits` once; without, it raises Busy.
    """
    claim = uuid4()
    begun = await _begin(database, integration_id, kind, options, claim, restart=restart, waits=waits)
    run = Run(database, integration_id, claim, begun)
    keeping = asyncio.create_task(run.keep())
    try:
        yield run
    except SyncError as error:
        await run.leave(error.reason)
        raise
    except BaseException as error:
        await run.leave(
            "interrupted" if isinstance(error, asyncio.CancelledError) else f"a fault: {type(error).__name__}"
        )
        raise
    finally:
        keeping.cancel()


async def _begin(  # noqa: PLR0913 - as open_run
    database: Database,
    integration_id: UUID,
    kind: Kind,
    options: Options,
    claim: UUID,
    *,
    restart: bool,
    waits: Callable[[str], None] | None,
) -> _Begun:
    has_told = False
    while True:
        answer = await _patient(
            lambda: database.call(
                "begin_run",
                p_integration_id=integration_id,
                p_kind=kind,
                p_options=msgspec.json.encode(options).decode(),
                p_claim=claim,
                p_lease_seconds=LEASE_SECONDS,
                p_restart=restart,
            )
        )
        begun = msgspec.json.decode(answer, type=_Begun)
        if begun.busy is None:
            return begun
        if waits is None:
            raise Busy(f"another process has a {begun.busy} of this integration in hand")
        if not has_told:
            waits(begun.busy)
            has_told = True
        await asyncio.sleep(min(begun.seconds, 1.0) + 0.1)


async def _patient(call: Callable[[], Any]) -> Any:
    """Return what the call returns; try again while the database is away or busy."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, Retry) and not isinstance(error, Await)),
        stop=stop_after_delay(PATIENCE_SECONDS),
        wait=wait_exponential_jitter(multiplier=0.1, max=5.0, jitter=0.1),
        reraise=True,
    ):
        with attempt:
            return await call()
    raise AssertionError("unreachable: it returns or raises")


def _encoded(part: Slice) -> str:
    return msgspec.json.encode(part).decode()
