"""A running Vendure, to be asked and told: a `sync.engines.base.Client` over the Admin API of a shop with our plugin.

What the plugin adds to that API is in `docs/vendure-hooks.md`. Faults that pass are tried again here, later and with
less at a time, for up to PATIENCE_SECONDS since the last answer; then the last of them is raised, a Retry.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

import httpx
import msgspec
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_before_delay, wait_random_exponential

from sync.engines.base import Client, Event, Fingerprint, Sweep
from sync.engines.vendure import payloads
from sync.engines.vendure.admin_api import AdminApi
from sync.engines.vendure.documents import Timestamp
from sync.engines.vendure.pace import Pace
from sync.errors import Retry
from sync.records import Delivery, Entity
from sync.settings import Credentials

log = structlog.get_logger()

PATIENCE_SECONDS = 60.0
rest = wait_random_exponential(multiplier=0.5, max=10)
"""Seconds between attempts: at random up to half a second, twice that, and so on."""

QUIET_ATTEMPTS = 2
"""So many may fail before the log says that the shop is waited for."""

LANES = 4
FIRST_DOCUMENTS = 50
MOST_DOCUMENTS = 200
"""As many as the plugin gives at once."""
MOST_FINGERPRINTS = 1000
"""As many as the plugin gives at once."""

COUNT = """query ($entity: MirrorEntity!, $since: DateTime) { mirrorCount(entity: $entity, since: $since) }"""
SWEEP = """query ($entity: MirrorEntity!, $position: String, $since: DateTime, $limit: Int!) {
  mirrorSweep(entity: $entity, position: $position, since: $since, limit: $limit) {
    readAt counted position fingerprints { id hash }
  }
}"""
DOCUMENTS = """query ($entity: MirrorEntity!, $ids: [ID!]!) { mirrorDocuments(entity: $entity, ids: $ids) }"""
SET_DELIVERY = """mutation ($input: UpdateOrderInput!) { setOrderCustomFields(input: $input) { id } }"""

P = ParamSpec("P")
T = TypeVar("T")


class _Count(msgspec.Struct, rename="camel"):
    mirror_count: int


class _Fingerprint(msgspec.Struct):
    id: str
    hash: str


class _Slice(msgspec.Struct, rename="camel"):
    read_at: Timestamp
    counted: int
    fingerprints: list[_Fingerprint]
    position: str | None = None


class _Sweep(msgspec.Struct, rename="camel"):
    mirror_sweep: _Slice


class _Done(msgspec.Struct):
    """Nothing of it is of interest."""


class _Documents(msgspec.Struct, rename="camel"):
    mirror_documents: list[msgspec.Raw]


@asynccontextmanager
async def connect(credentials: Credentials) -> AsyncIterator[Client]:
    """Open a client of a shop; it logs in with the first question."""
    limits = httpx.Limits(max_connections=2 * LANES, max_keepalive_connections=LANES)
    async with httpx.AsyncClient(limits=limits, timeout=None) as http:  # noqa: S113 - each request has one deadline
        yield VendureClient(AdminApi(http, credentials))


class VendureClient:
    """A shop with our plugin."""

    is_test: bool | None = None

    def __init__(self, api: AdminApi, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._api = api
        self._patience_seconds = patience_seconds
        self._fingerprints = Pace(MOST_FINGERPRINTS, MOST_FINGERPRINTS)
        self._documents = Pace(FIRST_DOCUMENTS, MOST_DOCUMENTS, LANES)

    async def count(self, entity: Entity, *, since: datetime | None = None) -> int:
        answer = await self._patiently(self._api.ask, COUNT, _Count, entity=entity.upper(), since=since)
        return answer.mirror_count

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        variables = {"entity": entity.upper(), "position": position, "since": since}
        return await self._patiently(self._slice, variables, limit)

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        waiting = deque(dict.fromkeys(source_ids))
        events: list[Event] = []
        lanes = [self._lane(number, entity, waiting, events) for number in range(self._documents.lanes)]
        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes:
                    group.create_task(lane)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return events

    async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
        fields = {"deliveryStage": delivery.stage, "trackingNumber": delivery.tracking_number}
        order = {"id": source_id, "customFields": fields}
        # Once: whoever sends tries again by a schedule of its own, and has others to send meanwhile.
        await self._api.ask(SET_DELIVERY, _Done, input=order)

    async def _slice(self, variables: dict[str, Any], limit: int) -> Sweep:
        asked = min(limit, self._fingerprints.size)
        with self._fingerprints.asking_for(asked):
            answer = await self._api.ask(SWEEP, _Sweep, **variables, limit=asked)
        found = answer.mirror_sweep
        fingerprints = [Fingerprint(one.id, one.hash) for one in found.fingerprints]
        return Sweep(found.read_at, found.counted, fingerprints, found.position)

    async def _lane(self, number: int, entity: Entity, waiting: deque[str], events: list[Event]) -> None:
        """Fetch pages until none is waiting, or the shop wants fewer lanes; the first one stays to the end."""
        while waiting and number < self._documents.lanes:
            events += await self._patiently(self._page, entity, waiting)

    async def _page(self, entity: Entity, waiting: deque[str]) -> list[Event]:
        """Fetch as many as one page holds now; if that fails, they wait again, perhaps for smaller pages."""
        ids = [waiting.popleft() for _ in range(min(len(waiting), self._documents.size))]
        if not ids:
            return []
        try:
            with self._documents.asking_for(len(ids)):
                answer = await self._api.ask(DOCUMENTS, _Documents, entity=entity.upper(), ids=ids)
        except Retry:
            waiting.extendleft(reversed(ids))
            raise
        return payloads.events_of(answer.mirror_documents)

    async def _patiently(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the call returns; try again what fails with Retry, until patience ends."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Retry),
            wait=_rest,
            stop=stop_before_delay(self._patience_seconds),
            before_sleep=self._tell,
            reraise=True,
        )
        return await attempts(call, *args, **kwargs)

    def _tell(self, state: RetryCallState) -> None:
        """Say what is waited for: a person may be waiting, too."""
        fault = state.outcome.exception() if state.outcome else None
        if state.attempt_number > QUIET_ATTEMPTS and isinstance(fault, Retry):
            log.warning("engine.tried_again", reason=fault.reason, gives_up_after_seconds=self._patience_seconds)


def _rest(state: RetryCallState) -> float:
    """Return the seconds to rest after a failure: as many as the shop asked for, or more."""
    fault = state.outcome.exception() if state.outcome else None
    asked_for = fault.after if isinstance(fault, Retry) else None
    return (asked_for or 0) + rest(state)
