"""Vendure's documents and the plugin's events, small and right: a test names only what it is about."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sync.engines.base import Event
from sync.engines.vendure import payloads
from tests.hooks import body_of, change

Document = dict[str, Any]

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
_numbers = itertools.count(1)


def at(seconds: float) -> str:
    """Return the time so many seconds after the tests' ten o'clock, as the plugin writes it."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def customer_document(customer_id: str, **fields: Any) -> Document:
    """Return a customer's document. Name fields as Vendure does."""
    return {
        "id": customer_id,
        "createdAt": at(-3600),
        "updatedAt": at(0),
        "title": "",
        "firstName": "Nimal",
        "lastName": "Perera",
        "emailAddress": f"customer{customer_id}@example.com",
        "phoneNumber": None,
        "user": None,
        "addresses": [],
        "groups": [],
        "customFields": {},
        **fields,
    }


def address(address_id: str, **fields: Any) -> Document:
    """Return an entry of a customer's address book."""
    country = {"code": "LK", "name": "Sri Lanka"}
    return {"id": address_id, "streetLine1": "4/1 Temple Lane", "city": "Colombo 05", "country": country, **fields}


def order_document(order_id: str, **fields: Any) -> Document:
    """Return a placed order's document: 1 000.00 rupees, tax included, for customer 1."""
    return {
        "id": order_id,
        "code": f"CODE{order_id}",
        "type": "Regular",
        "state": "PaymentSettled",
        "active": False,
        "orderPlacedAt": at(-60),
        "createdAt": at(-120),
        "updatedAt": at(-90),
        "currencyCode": "LKR",
        "subTotal": 84746,
        "subTotalWithTax": 100000,
        "shipping": 0,
        "shippingWithTax": 0,
        "total": 84746,
        "totalWithTax": 100000,
        "customer": {"id": "1"},
        "lines": [line("1")],
        "payments": [payment("1")],
        **fields,
    }


def line(line_id: str, **fields: Any) -> Document:
    """Return an order's line: one kit for 1 000.00 rupees."""
    return {
        "id": line_id,
        "quantity": 1,
        "unitPriceWithTax": 100000,
        "proratedLinePriceWithTax": 100000,
        "productVariant": {"sku": "KIT-M", "name": "Home Kit M", "product": {"name": "Home Kit"}},
        "customFields": {},
        **fields,
    }


def payment(payment_id: str, **fields: Any) -> Document:
    """Return an order's payment: 1 000.00 rupees by card, settled; made as many seconds after ten as its id says."""
    made = {"id": payment_id, "createdAt": at(int(payment_id))}
    return {**made, "method": "card", "amount": 100000, "state": "Settled", "refunds": [], **fields}


def refund(refund_id: str, total: int, **fields: Any) -> Document:
    """Return a refund of a payment, settled; made as many seconds after ten as its id says."""
    return {"id": refund_id, "createdAt": at(int(refund_id)), "total": total, "state": "Settled", **fields}


def fulfillment(fulfillment_id: str, **fields: Any) -> Document:
    """Return an order's fulfilment: shipped by courier; made as many seconds after ten as its id says."""
    made = {"id": fulfillment_id, "createdAt": at(int(fulfillment_id))}
    return {**made, "state": "Shipped", "method": "Courier", "trackingCode": None, **fields}


def transition(entry_id: str, from_state: str, to_state: str, seconds: float) -> Document:
    """Return an entry of an order's `history` that says how its state changed."""
    data = {"from": from_state, "to": to_state}
    return {"id": entry_id, "type": "ORDER_STATE_TRANSITION", "createdAt": at(seconds), "data": data}


def stage_change(change_id: str, stage: str, seconds: float, **fields: Any) -> Document:
    """Return an entry of an order's `deliveryStageChanges`."""
    return {"id": change_id, "stage": stage, "changedAt": at(seconds), **fields}


def customer_changed(customer_id: str, read_at: float, **fields: Any) -> Document:
    """Return the event that says a customer's state, read so many seconds after ten."""
    return event("customer.changed", customer_id, read_at, customer_document(customer_id, **fields))


def customer_deleted(customer_id: str, read_at: float) -> Document:
    return event("customer.deleted", customer_id, read_at, None)


def order_changed(order_id: str, read_at: float, **fields: Any) -> Document:
    """Return the event that says an order's state, read so many seconds after ten."""
    return event("order.changed", order_id, read_at, order_document(order_id, **fields))


def order_deleted(order_id: str, read_at: float) -> Document:
    return event("order.deleted", order_id, read_at, None)


def event(event_type: str, entity_id: str, read_at: float, data: Any) -> Document:
    """Return an event with an id of its own."""
    number = next(_numbers)
    return change(f"event-{number}", type=event_type, entityId=entity_id, readAt=at(read_at), data=data)


def received(*events: Document) -> list[Event]:
    """Return events as the endpoint reads them from a hook."""
    return payloads.read(body_of(*events))


def payload(described: Document) -> bytes:
    """Return an event's JSON."""
    return json.dumps(described).encode()
