"""Stripe's API: one question, one answer, and what to do if there is none. By its own library, over httpx.

Nothing is tried again here: `ask` says by its error what became of the attempt.

    Retry
    ├── TooOften    429. Ask later, and less often
    └── Final       Stripe says that it is no use to ask again at once
    Reject
    └── Missing     there is no such object
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import msgspec
import stripe

from sync.errors import Reject, Retry
from sync.storable import storable

REASON_LENGTH = 300
BAD_KEY = "Stripe does not accept the API key."
NOT_ALLOWED = (
    "The API key may not read this. A restricted key needs read access to PaymentIntents, Charges and Refunds, "
    "Products, Prices, Subscriptions and Invoices."
)

EPOCH = datetime.fromtimestamp(0, UTC)
DRIFT = 0.001
"""So many seconds two clocks come apart within a second, at the most."""

stripe.enable_telemetry = False  # what we measure is nobody else's


class TooOften(Retry):
    """Stripe has enough for now."""


class Final(Retry):
    """Later, perhaps; but not at once."""


class Missing(Reject):
    """There is no such object."""


class Answer(msgspec.Struct, frozen=True):
    """What Stripe said, and when it was true at the latest."""

    body: bytes
    """JSON."""
    read_at: datetime
    """By Stripe's clock, before it began to read: what it tells is no older."""


class Clock:
    """Stripe's clock, as its answers show it: in whole seconds, at their end.

    Each says how far ours is behind it at the least, so the most that was said lately is nearest. Of two readings,
    one after the other, the later one is told the later time, however long their answers took.
    """

    def __init__(self) -> None:
        self._ahead = timedelta.min
        self._seen_at = 0.0

    def at(self, began: float, answered: float, shown: datetime) -> datetime:
        """Return what it showed when we began to ask, or a little less; `began` and `answered` are by our clock."""
        if self._ahead > timedelta.min:
            self._ahead -= timedelta(seconds=max(0.0, answered - self._seen_at) * DRIFT)
        self._ahead = max(self._ahead, shown - EPOCH - timedelta(seconds=answered))
        self._seen_at = answered
        return EPOCH + self._ahead + timedelta(seconds=began)


async def ask(call: Callable[[], Awaitable[stripe.StripeObject]], clock: Clock) -> Answer:
    """Return what a call of the library is answered; raise Retry or Reject."""
    asked_at, began = datetime.now(UTC), time.monotonic()
    try:
        found = await call()
    except stripe.StripeError as error:
        _judge(error)
    answered = time.monotonic()
    response = found.last_response
    if response is None:
        raise Retry("Stripe's answer was cut off.")
    shown = _date(response.headers)
    return Answer(storable(response.body.encode()), clock.at(began, answered, shown) if shown else asked_at)


def _date(headers: Mapping[str, str]) -> datetime | None:
    """Return Stripe's clock when it answered, which it tells in seconds."""
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(headers["date"]) if "date" in headers else None
    return None


def _judge(error: stripe.StripeError) -> NoReturn:
    """Raise what an error of the library means."""
    headers: dict[str, Any] = {name.lower(): value for name, value in dict(error.headers or {}).items()}
    status, code = error.http_status, error.code
    if isinstance(error, stripe.RateLimitError):
        reason = headers.get("stripe-rate-limited-reason")
        raise TooOften(f"Stripe has enough for now ({reason or '429'}).", after=_seconds(headers)) from None
    if isinstance(error, stripe.APIConnectionError) or status is None:
        raise Retry("Stripe cannot be reached.") from None
    if isinstance(error, stripe.AuthenticationError):
        raise Reject(BAD_KEY) from None
    if isinstance(error, stripe.PermissionError):
        raise Reject(NOT_ALLOWED) from None
    if code == "resource_missing" or status == 404:
        raise Missing(_said(error)) from None
    if status >= 500 or status == 409 or isinstance(error, stripe.APIError):
        kind = Final if headers.get("stripe-should-retry") == "false" else Retry
        raise kind(f"Stripe failed to answer ({status}).") from None
    raise Reject(_said(error)) from None


def _said(error: stripe.StripeError) -> str:
    return f"Stripe refuses: {(error.user_message or type(error).__name__)[:REASON_LENGTH]}"


def _seconds(headers: Mapping[str, Any]) -> float | None:
    """Return the seconds that a Retry-After asks for, where there is one: Stripe itself sends none."""
    value = str(headers.get("retry-after", ""))
    return float(value) if value.isdecimal() else None
