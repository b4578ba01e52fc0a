"""What Vendure's order document says of money and goods beyond its lines: payments, refunds, fulfilments, its history.

Vendure lets a shop have states of its own. Those we do not know mean that nothing is settled yet; the word itself is
kept beside.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from sync.engines.vendure import documents
from sync.engines.vendure.values import money, text
from sync.records import (
    FulfilledLine,
    Fulfillment,
    OrderEvent,
    OrderPayment,
    OrderRefund,
    PaymentStatus,
    RefundStatus,
)

PAYMENT_STATUS: dict[str, PaymentStatus] = {
    "Created": "pending",
    "Authorized": "authorized",
    "Settled": "paid",
    "Declined": "failed",
    "Error": "failed",
    "Cancelled": "cancelled",
}
REFUND_STATUS: dict[str, RefundStatus] = {"Pending": "pending", "Settled": "succeeded", "Failed": "failed"}

STATE_TRANSITION = "ORDER_STATE_TRANSITION"

Part = TypeVar("Part", documents.Payment, documents.Fulfillment)


def in_order(parts: Sequence[Part]) -> list[Part]:
    """Return payments or fulfilments as they came to be: documents list them in any order where ids are UUIDs."""
    return sorted(parts, key=lambda part: (part.created_at, part.id))


def order_payment(payment: documents.Payment, exponent: int) -> OrderPayment:
    """Return a payment with its refunds, as the shop tells of it."""
    return OrderPayment(
        source_id=payment.id,
        method=text(payment.method),
        amount=money(payment.amount, exponent),
        status=PAYMENT_STATUS.get(payment.state, "pending"),
        source_status=payment.state,
        transaction_id=text(payment.transaction_id),
        failure_reason=text(payment.error_message),
        initiated_at=payment.created_at,
        refunds=[
            _refund(refund, payment, position, exponent) for position, refund in enumerate(payment.refunds or (), 1)
        ],
    )


def fulfillment(document: documents.Fulfillment) -> Fulfillment:
    """Return a fulfilment, cancelled ones too."""
    return Fulfillment(
        source_id=document.id,
        state=document.state,
        method=text(document.method),
        tracking_number=text(document.tracking_code),
        lines=sorted(
            (FulfilledLine(source_id=line.order_line_id, quantity=line.quantity) for line in document.lines or ()),
            key=lambda line: line.source_id,
        ),
        fulfilled_at=document.created_at,
    )


def order_events(history: documents.History | None) -> list[OrderEvent]:
    """Return an order's changes of state; none from a plugin that does not send its history."""
    events: list[OrderEvent] = []
    for entry in history.items if history else ():
        if entry.type == STATE_TRANSITION:
            transition = msgspec.convert(entry.data, documents.Transition)
            events.append(
                OrderEvent(
                    source_id=entry.id,
                    from_state=text(transition.from_),
                    to_state=transition.to,
                    changed_at=entry.created_at,
                )
            )
    return events


def _refund(refund: documents.Refund, payment: documents.Payment, position: int, exponent: int) -> OrderRefund:
    return OrderRefund(
        source_id=refund.id or f"{payment.id}/{position}",
        amount=money(refund.total, exponent),
        status=REFUND_STATUS.get(refund.state, "pending"),
        source_status=refund.state,
        reason=text(refund.reason),
        transaction_id=text(refund.transaction_id),
        initiated_at=refund.created_at or payment.created_at,
    )
