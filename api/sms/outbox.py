"""Texts on their way: through the first driver that takes them, a few at once, beside whatever the API serves.

A text is begun and left to itself: nobody waits for a provider, unless they want to. What became of it is noted in
`mirror.sms_deliveries`, without its words and without the number.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import msgspec
import structlog

from api.metrics import TEXTS, TEXTS_COST
from api.settings import Route
from api.sms.base import NotSent, Unavailable, Undeliverable
from api.sms.segments import segments
from sync.database import Database
from sync.deadline import within
from sync.errors import Retry, SyncError

log = structlog.get_logger()

MAX_AT_ONCE = 16
MAX_WAITING = 100
DRIVER_SECONDS = 6.0
CONNECT_SECONDS = 3.0
SETTLE_SECONDS = 20.0
SETTLE_TRIES = 3
CLOSE_SECONDS = 20.0


class Sms(msgspec.Struct, frozen=True):
    """A text that `mirror.request_otp` or `mirror.request_sms` let through."""

    delivery_id: UUID
    phone: str
    text: str

    def __repr__(self) -> str:
        return f"Sms({self.delivery_id})"


class Outcome(msgspec.Struct, frozen=True):
    """What became of a text."""

    outcome: str
    """sent, unknown or failed, as in `mirror.sms_outcome`."""
    driver: str
    cost: Decimal
    reason: str | None


class Outbox:
    """Sends texts through routes, in their order."""

    def __init__(self, routes: Sequence[Route], database: Database) -> None:
        self._routes = routes
        self._database = database
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(DRIVER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=MAX_AT_ONCE),
            follow_redirects=False,
        )
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._under_way: set[asyncio.Task[Outcome]] = set()

    @property
    def segment_price(self) -> Decimal:
        """What a message costs if the first driver takes it."""
        return self._routes[0].segment_price

    def require_room(self) -> None:
        """Raise Retry if too many texts are under way."""
        if len(self._under_way) >= MAX_WAITING:
            raise Retry("too many texts are under way")

    def begin(self, sms: Sms, *, first: Coroutine[Any, Any, Any] | None = None) -> "asyncio.Task[Outcome]":
        """Send a text once `first` is done, and note what became of it. Wait for the task or not: it goes on."""
        task = asyncio.create_task(self._send(sms, first))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def close(self) -> None:
        """Wait for what is under way, and let go of the providers."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CLOSE_SECONDS)
        await self._client.aclose()

    async def _send(self, sms: Sms, first: Coroutine[Any, Any, Any] | None) -> Outcome:
        try:
            if first is not None:
                await first
            async with self._turns:
                outcome = await self._through_routes(sms)
        except SyncError as error:
            log.warning("sms.not_begun", delivery=str(sms.delivery_id), reason=error.reason)
            outcome = Outcome("failed", self._routes[0].name, Decimal(0), error.reason)
        TEXTS.labels(outcome.driver, outcome.outcome).inc()
        TEXTS_COST.labels(outcome.driver).inc(float(outcome.cost))
        await self._settle(sms, outcome)
        return outcome

    async def _through_routes(self, sms: Sms) -> Outcome:
        count = segments(sms.text)
        reasons: list[str] = []
        perhaps = Decimal(0)
        is_unknown = False
        for route in self._routes:
            cost = count * route.segment_price
            try:
                await self._hand_over(route, sms)
            except NotSent as error:
                log.warning("sms.not_sent", driver=route.name, kind=type(error).__name__, reason=error.reason)
                reasons.append(f"{route.name}: {error.reason}")
                is_unknown = is_unknown or error.may_have_sent
                perhaps += cost if error.may_have_sent else 0
                if isinstance(error, Undeliverable):
                    break
            else:
                return Outcome("sent", route.name, perhaps + cost, "; ".join(reasons) or None)
        return Outcome("unknown" if is_unknown else "failed", route.name, perhaps, "; ".join(reasons))

    async def _hand_over(self, route: Route, sms: Sms) -> None:
        try:
            async with asyncio.timeout(DRIVER_SECONDS):
                await route.driver.send(self._client, sms.phone, sms.text)
        except TimeoutError:
            raise Unavailable(f"did not answer within {DRIVER_SECONDS:g} s", may_have_sent=True) from None
        except NotSent:
            raise
        except Exception as error:
            # A driver that breaks on an answer must not cost the customer the code. The error may quote the text.
            raise Unavailable(f"broke on its answer: {type(error).__name__}", may_have_sent=True) from None

    async def _settle(self, sms: Sms, outcome: Outcome) -> None:
        for attempt in range(SETTLE_TRIES):
            try:
                await within(SETTLE_SECONDS, self._note(sms, outcome))
            except SyncError as error:
                log.warning("sms.not_noted", delivery=str(sms.delivery_id), attempt=attempt + 1, reason=error.reason)
                await asyncio.sleep(attempt)
            else:
                return

    async def _note(self, sms: Sms, outcome: Outcome) -> None:
        await self._database.call(
            "settle_sms",
            p_delivery_id=sms.delivery_id,
            p_outcome=outcome.outcome,
            p_driver=outcome.driver,
            p_cost=outcome.cost,
            p_reason=outcome.reason,
        )
