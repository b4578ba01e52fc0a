"""Which of two states of one second is the newer: Stripe's events tell the time in seconds, and many happen in one.

A state's place in the life of its object tells: what is final comes after what is not, and counters only grow. What no
such sign orders (a name changed twice within a second) gets a fixed order all the same, by a digest, so that every
mirror ends with the same; and where that matters the object is read anew (`mapping.py`).
"""

import hashlib
from typing import Any

import msgspec

from sync.engines.stripe.documents import (
    ChargeDocument,
    InvoiceDocument,
    PaymentIntentDocument,
    SubscriptionDocument,
)
from sync.errors import Reject

PAYMENT_INTENT = (
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "processing",
    "requires_capture",
    "canceled",
    "succeeded",
)
FAILED_ATTEMPT = PAYMENT_INTENT.index("processing")
"""An attempt that failed has gone through what comes before; the next one begins with a person, so not at once."""

CHARGE = ("pending", "failed", "succeeded")
REFUND = ("pending", "requires_action", "succeeded", "failed", "canceled")
"""A refund that succeeded may still fail, when the bank sends it back."""
SUBSCRIPTION = (
    "incomplete",
    "trialing",
    "paused",
    "active",
    "past_due",
    "unpaid",
    "incomplete_expired",
    "canceled",
)
ENDED = ("incomplete_expired", "canceled")
INVOICE = ("draft", "open", "uncollectible", "void", "paid")


def payment_intent_place(document: PaymentIntentDocument) -> list[int]:
    """Return where in its life a payment intent is."""
    step = place(PAYMENT_INTENT, document.status)
    has_failed = document.last_payment_error is not None
    if has_failed and document.status == "requires_payment_method":
        step = FAILED_ATTEMPT
    return [step, has_failed, document.amount_capturable, document.amount_received]


def charge_place(document: ChargeDocument) -> list[int]:
    """Return where in its life a charge is."""
    return [place(CHARGE, document.status), document.captured, document.amount_captured, document.amount_refunded]


def subscription_place(document: SubscriptionDocument, period_start: int) -> list[int]:
    """Return where in its life a subscription is: in a later period, it is later, whatever its status."""
    is_ended = document.status in ENDED
    is_leaving = document.cancel_at is not None or document.cancel_at_period_end
    return [is_ended, period_start, place(SUBSCRIPTION, document.status), is_leaving]


def invoice_place(document: InvoiceDocument) -> list[int]:
    """Return where in its life an invoice is."""
    return [place(INVOICE, document.status or "draft"), document.attempt_count, document.amount_paid]


def place(statuses: tuple[str, ...], status: str) -> int:
    """Return a status's place in a life; raise Reject for one that this version does not know."""
    if status not in statuses:
        raise Reject(f"status: {status!r} is not known to this version: install a newer mirror")
    return statuses.index(status)


def source_order(steps: list[int], content: dict[str, Any]) -> str:
    """Return the order of a state, to be compared byte by byte; two states have the same only if they are the same."""
    return ":".join([*(f"{max(0, step):019}" for step in steps), digest(content)])


def as_read(source_order: str) -> str:
    """Return the order of a state that was read at Stripe: of those at the same place in a life, it is the newer."""
    steps, _, content = source_order.rpartition(":")
    return f"{steps}:~{content}"


def digest(content: dict[str, Any]) -> str:
    """Return what tells one content from another."""
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:32]
