"""A shop of any size for the bench: orders and customers in the shape of recorded ones, each with its own ids."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tests.hooks import body_of, change

RECORDED = Path(__file__).parent.parent / "recorded" / "vendure" / "hooks.jsonl"
ORDERS_PER_CUSTOMER = 5


def order_change(number: int) -> dict[str, Any]:
    """Return the event of an order; its customer has every fifth."""
    customer = number // ORDERS_PER_CUSTOMER
    data = json.loads(_order())
    data.update(id=str(number), code=order_code(number))
    data["customer"].update(id=str(customer), emailAddress=_email(customer), phoneNumber=phone(customer))
    for address in (data["shippingAddress"], data["billingAddress"]):
        address.update(phoneNumber=phone(customer))
    for position, line in enumerate(data["lines"]):
        line.update(id=f"{number}-{position}")
    return change(f"order-{number}", entityId=str(number), data=data)


def customer_change(number: int) -> dict[str, Any]:
    """Return the event of a customer."""
    data = json.loads(_customer())
    data.update(id=str(number), emailAddress=_email(number), phoneNumber=phone(number))
    for position, address in enumerate(data["addresses"]):
        address.update(id=f"{number}-{position}")
    return change(f"customer-{number}", type="customer.changed", entityId=str(number), data=data)


def order_hook(number: int) -> bytes:
    """Return the body of a hook with one order."""
    return body_of(order_change(number))


def order_code(number: int) -> str:
    return f"BENCH{number:08}"


def phone(customer: int) -> str:
    """Return a Sri Lankan mobile number."""
    return f"9477{customer:07}"


def _email(customer: int) -> str:
    return f"customer-{customer}@example.com"


@cache
def _order() -> str:
    """Return the first recorded order with two lines and both addresses, about 3 kB, paid at once as nearly all are."""
    order = next(data for data in _documents("order.changed") if _is_typical(data))
    created, arranging, *_, settled = order["history"]["items"]
    return json.dumps(
        {**order, "payments": order["payments"][-1:], "history": {"items": [created, arranging, settled]}}
    )


def _is_typical(data: dict[str, Any]) -> bool:
    addresses = [data["billingAddress"], data["shippingAddress"]]
    return len(data["lines"]) == 2 and all(address and address["streetLine1"] for address in addresses)


@cache
def _customer() -> str:
    """Return the recorded customer with the most addresses."""
    return json.dumps(max(_documents("customer.changed"), key=lambda data: (len(data["addresses"]), data["id"])))


def _documents(event_type: str) -> list[dict[str, Any]]:
    bodies = [json.loads(json.loads(line)["body"]) for line in RECORDED.read_bytes().splitlines()]
    return [event["data"] for body in bodies for event in body["events"] if event["type"] == event_type]
