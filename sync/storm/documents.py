"""Documents as Vendure writes them (`docs/vendure-hooks.md`): the parts that the simulated shop is built of.

Complete, as the plugin sends them: with every field, also those that the mirror does not read. Amounts are made up, but
they add up.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from sync.records import Entity

Document = dict[str, Any]

TAX = 18
"""Per cent, included in the prices."""
SHIPPING = 45_000
COUNTRY = {"code": "LK", "name": "Sri Lanka"}
KITS = ("Colombo Home Kit", "Galle Away Kit", "Kandy Retro Shirt", "Jaffna Training Top")
SIZES = ("S", "M", "L", "XL")


def written(time: datetime) -> str:
    """Return a time as the plugin writes it: UTC, microseconds."""
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def digest(document: bytes) -> str:
    """Return the `hash` that goes with a document's JSON: another document has another one."""
    return hashlib.sha256(document).hexdigest()[:32]


def encode(document: Document) -> bytes:
    """Return a document's JSON."""
    return msgspec.json.encode(document)


def event(event_id: str, entity: Entity, source_id: str, read_at: str, document: bytes | None) -> bytes:
    """Return an event of a hook, as JSON; without a document, the one that says that the entity is gone."""
    head = {
        "id": event_id,
        "type": f"{entity}.{'deleted' if document is None else 'changed'}",
        "entityId": source_id,
        "readAt": read_at,
        "hash": document and digest(document),
        "data": msgspec.Raw(document or b"null"),
    }
    return msgspec.json.encode(head)


def customer(customer_id: str, created: datetime, *, first_name: str, last_name: str, email: str) -> Document:
    """Return a guest with nothing but a name and an e-mail."""
    return {
        "id": customer_id,
        "createdAt": written(created),
        "updatedAt": written(created),
        "title": "",
        "firstName": first_name,
        "lastName": last_name,
        "emailAddress": email,
        "phoneNumber": None,
        "user": None,
        "addresses": [],
        "groups": [],
        "customFields": {"phoneVerified": False, "marketingConsent": False},
    }


def address_book_entry(entry_id: str, full_name: str, street: str, city: str, phone: str | None) -> Document:
    """Return an address that is nobody's default yet."""
    return {
        "id": entry_id,
        "fullName": full_name,
        "company": "",
        "streetLine1": street,
        "streetLine2": "",
        "city": city,
        "province": "",
        "postalCode": "00500",
        "country": COUNTRY,
        "phoneNumber": phone,
        "defaultShippingAddress": False,
        "defaultBillingAddress": False,
        "customFields": {},
    }


def order(order_id: str, code: str, placed: datetime, buyer: Document, lines: Sequence[Document]) -> Document:
    """Return an order just placed: nothing is paid, nothing is delivered."""
    document: Document = {
        "id": order_id,
        "code": code,
        "type": "Regular",
        "state": "PaymentAuthorized",
        "active": False,
        "orderPlacedAt": written(placed),
        "createdAt": written(placed),
        "updatedAt": written(placed),
        "currencyCode": "LKR",
        "couponCodes": [],
        "discounts": [],
        "customer": reference_to(buyer),
        "shippingAddress": order_address(buyer),
        "billingAddress": None,
        "shippingLines": [{"shippingMethod": {"code": "courier", "name": "Courier"}, "priceWithTax": SHIPPING}],
        "lines": list(lines),
        "payments": [],
        "fulfillments": [],
        "aggregateOrder": None,
        "sellerOrders": [],
        "customFields": {"deliveryStage": None, "trackingNumber": None},
        "deliveryStageChanges": [],
    }
    return {**document, **totals(lines)}


def totals(lines: Sequence[Document]) -> Document:
    """Return the amounts of an order with these lines."""
    goods = sum(line["proratedLinePriceWithTax"] for line in lines)
    return {
        "totalQuantity": sum(line["quantity"] for line in lines),
        "subTotal": without_tax(goods),
        "subTotalWithTax": goods,
        "shipping": without_tax(SHIPPING),
        "shippingWithTax": SHIPPING,
        "total": without_tax(goods) + without_tax(SHIPPING),
        "totalWithTax": goods + SHIPPING,
    }


def without_tax(amount: int) -> int:
    """Return an amount less the tax that it includes."""
    return round(amount * 100 / (100 + TAX))


def line(line_id: str, variant: int, quantity: int, unit_price: int) -> Document:
    """Return a line for one of the shop's kits, at a price per piece with tax."""
    kit, size = KITS[variant % len(KITS)], SIZES[variant % len(SIZES)]
    priced: Document = {"id": line_id, "orderPlacedQuantity": quantity, "unitPriceWithTax": unit_price}
    return {
        **priced,
        "unitPrice": without_tax(unit_price),
        **line_amounts(unit_price, quantity),
        "productVariant": {
            "id": str(variant + 1),
            "sku": f"KIT-{variant}-{size}",
            "name": f"{kit} {size}",
            "product": {"id": str(variant % len(KITS) + 1), "name": kit},
        },
        "customFields": {
            "patchEnabled": False,
            "patchType": None,
            "printName": None,
            "printNumber": None,
            "preOrder": False,
        },
    }


def line_amounts(unit_price: int, quantity: int) -> Document:
    """Return the quantity of a line and what follows from it."""
    amount = unit_price * quantity
    names = ("linePriceWithTax", "discountedLinePriceWithTax", "proratedLinePriceWithTax")
    return {"quantity": quantity, **dict.fromkeys(names, amount)}


def payment(payment_id: str, amount: int, made: datetime) -> Document:
    """Return a payment by card that is authorized."""
    return {
        "id": payment_id,
        "method": "card",
        "amount": amount,
        "state": "Authorized",
        "transactionId": f"card-{payment_id}",
        "errorMessage": None,
        "createdAt": written(made),
        "refunds": [],
    }


def refund(refund_id: str, amount: int, made: datetime) -> Document:
    """Return a refund that is on its way."""
    return {
        "id": refund_id,
        "total": amount,
        "state": "Pending",
        "reason": "returned",
        "transactionId": None,
        "createdAt": written(made),
    }


def fulfillment(fulfillment_id: str, made: datetime, lines: Sequence[Document]) -> Document:
    """Return a parcel with all lines, handed to the courier."""
    return {
        "id": fulfillment_id,
        "state": "Shipped",
        "method": "Trans Express",
        "trackingCode": "",
        "createdAt": written(made),
        "updatedAt": written(made),
        "lines": [{"orderLineId": line["id"], "quantity": line["quantity"]} for line in lines],
    }


def reference_to(buyer: Document) -> Document:
    """Return a customer as an order names them."""
    names = ("id", "title", "firstName", "lastName", "emailAddress", "phoneNumber")
    return {name: buyer[name] for name in names}


def order_address(buyer: Document) -> Document:
    """Return where a customer's order goes: to the first address, or to the name alone."""
    entry = buyer["addresses"][0] if buyer["addresses"] else {}
    names = ("company", "streetLine1", "streetLine2", "city", "province", "postalCode", "phoneNumber")
    country = {"country": COUNTRY["name"], "countryCode": COUNTRY["code"]}
    name = entry.get("fullName", f"{buyer['firstName']} {buyer['lastName']}")
    return {"fullName": name, **{name: entry.get(name) for name in names}, **country}
