"""What a test of every engine needs of each: hooks that it signs, events that happened, and what stands in the end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from sync.engines.base import Engine, Event
from sync.engines.registry import ENGINES
from sync.engines.vendure import payloads
from sync.recording import load_recording
from tests import account, hooks
from tests.account import document, event
from tests.hooks import change

Document = dict[str, Any]


class Sender(NamedTuple):
    """How an engine sends hooks."""

    engine: Engine
    sign: Callable[..., dict[str, str]]
    """(body, *secrets, at=…) → the headers."""
    secret: str
    other_secret: str
    body: bytes
    unknown: bytes
    """A hook of a kind that we do not mirror."""
    signature_header: str
    time_header: str
    """Where the time of signing is."""
    with_time: Callable[[str], str]
    """Puts something else in its place."""


def _signed_at(body: bytes, *secrets: str, at: datetime | None = None) -> dict[str, str]:
    return account.signed(body, *secrets, at=at.timestamp() if at else None)


SENDERS = {
    "vendure": Sender(
        ENGINES["vendure"],
        hooks.signed,
        hooks.SECRET,
        hooks.OTHER_SECRET,
        hooks.body_of(change("1")),
        hooks.body_of(change("1", type="coupon.changed", colour="blue")),
        "webhook-signature",
        "webhook-timestamp",
        lambda time: time,
    ),
    "stripe": Sender(
        ENGINES["stripe"],
        _signed_at,
        account.SECRET,
        account.OTHER_SECRET,
        account.body_of(account.known("invoice.paid")["event"]),
        account.body_of(
            event("radar.early_fraud_warning.created", 0, {"id": "issfr_1", "object": "early_fraud_warning"})
        ),
        "stripe-signature",
        "stripe-signature",
        lambda time: f"t={time},v1=00",
    ),
}


def _payment() -> list[Document]:
    """Return a checkout that takes two seconds, fails once and is refunded twice."""
    intent = {"id": "pi_1", "latest_charge": None}
    declined = {"code": "card_declined", "message": "Your card was declined."}
    charged = {**intent, "latest_charge": "ch_1"}
    refund = {"id": "re_1", "payment_intent": "pi_1", "charge": "ch_1", "failure_reason": None}
    return [
        event("payment_intent.created", 0, document("payment_intent.created", **intent)),
        event("payment_intent.requires_action", 0, document("payment_intent.requires_action", **intent)),
        event(
            "payment_intent.payment_failed",
            0,
            document("payment_intent.payment_failed", **intent, last_payment_error=declined),
        ),
        event("charge.succeeded", 1, document("charge.succeeded-of-an-intent", id="ch_1", payment_intent="pi_1")),
        event("payment_intent.processing", 1, document("payment_intent.processing", **charged)),
        event("payment_intent.succeeded", 1, document("payment_intent.succeeded", **charged)),
        event("refund.created", 5, document("refund.created", **refund, status="pending")),
        event("charge.refunded", 5, document("charge.refunded-of-an-intent", id="ch_1", payment_intent="pi_1")),
        event("refund.updated", 5, document("refund.updated", **refund, status="succeeded")),
        event("refund.failed", 9, document("refund.failed", **{**refund, "failure_reason": "declined"})),
        event("refund.created", 9, document("refund.created", **{**refund, "id": "re_2"}, status="succeeded")),
        event("payment_intent.created", 2, document("payment_intent.created", id="pi_2")),
        event("payment_intent.canceled", 2, document("payment_intent.canceled", id="pi_2")),
    ]


def _subscription() -> list[Document]:
    """Return a subscription from its first second to its end, with its plan and its invoices."""
    subscription = document("customer.subscription.updated", id="sub_1", latest_invoice="in_1")
    item = subscription["items"]["data"][0]
    later = {"current_period_start": account.AT + 30, "current_period_end": account.AT + 60}
    renewed = {**subscription, "items": {"object": "list", "data": [{**item, **later}]}, "latest_invoice": "in_2"}
    before = {"items": subscription["items"], "latest_invoice": "in_1"}
    ended = {**renewed, "status": "canceled", "ended_at": account.AT + 40, "canceled_at": account.AT + 40}
    paid = document("invoice.paid", id="in_1")
    return [
        event("product.created", 0, document("product.created", id="prod_1")),
        event("price.created", 0, document("price.created", id="price_1", product="prod_1")),
        event("customer.subscription.created", 3, {**subscription, "status": "incomplete"}),
        event("invoice.created", 3, document("invoice.created", id="in_1")),
        event("invoice.finalized", 3, document("invoice.finalized", id="in_1")),
        event("invoice.paid", 3, paid),
        event("invoice.payment_succeeded", 3, paid),
        event("customer.subscription.updated", 3, subscription, {"status": "incomplete"}),
        event("customer.subscription.updated", 30, renewed, before),
        event("invoice.created", 30, document("invoice.created", id="in_2")),
        event("invoice.deleted", 31, document("invoice.deleted", id="in_2")),
        event("customer.subscription.deleted", 40, ended),
        event("price.deleted", 41, document("price.deleted", id="price_1")),
        event("price.created", 41, document("price.created", id="price_2")),
        event("invoice.upcoming", 42, document("invoice.upcoming")),
        event("radar.early_fraud_warning.created", 43, {"id": "issfr_1", "object": "early_fraud_warning"}),
    ]


def _vendure_events() -> list[Event]:
    """Return what a real shop sent, each event as it came first.

    The plugin reads again before it sends again: a later copy has the same content and a later time of reading, and
    which copy is stored is the first to arrive.
    """
    bodies = [payloads.read(hook.body.encode()) for hook in load_recording().hooks]
    return list({event.event_id: event for body in reversed(bodies) for event in body}.values())[::-1]


def happened(engine: str) -> list[Event]:
    """Return events of an engine in the order in which they happened."""
    return _vendure_events() if engine == "vendure" else account.received(*_payment(), *_subscription())
