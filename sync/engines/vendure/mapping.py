"""Vendure's documents → records. One mapping, whoever brings the document: hook, backfill or reconcile.

Pure: the same document gives the same record. Carts and drafts are not for us, and neither is a seller's part of an
order, whose lines stand in the aggregate order already (seen in Vendure 3.7: both copies have all totals).
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import msgspec

from sync.engines.base import Context
from sync.engines.vendure.documents import (
    AddressBookEntry,
    CustomerDocument,
    DeliveryStageChange,
    Fulfillment,
    OrderAddress,
    OrderDocument,
    OrderLine,
    Payment,
    Timestamp,
)
from sync.engines.vendure.money import fulfillment, in_order, order_events, order_payment
from sync.engines.vendure.values import decimals, money, text
from sync.errors import Reject, Skip
from sync.phones import phone_digits
from sync.records import (
    DELIVERY_STAGES,
    Address,
    AddressType,
    Customer,
    Deletion,
    DeliveryStage,
    Item,
    Json,
    Order,
    Record,
    StageChange,
)

MAPPING_VERSION = 2
"""Raise it when a document becomes another record than before: reconcile then reads everything anew."""

CUSTOMER_FIELDS = {"phoneVerified", "marketingConsent"}
ORDER_FIELDS = {"deliveryStage", "trackingNumber"}
LINE_FIELDS = {"patchEnabled", "patchType", "printName", "printNumber", "preOrder"}
"""Custom fields that have a column of their own; all others go into custom_fields."""

ADDRESS_NAMES = {
    "full_name": "full_name",
    "company": "company",
    "street_line1": "street_line_1",
    "street_line2": "street_line_2",
    "city": "city",
    "province": "province",
    "postal_code": "postal_code",
    "country": "country_name",
    "country_code": "country_code",
    "phone_number": "phone_as_entered",
}
"""Fields of an order's address → our names for them."""

SNAPSHOT_NAMES = tuple(ADDRESS_NAMES[name] for name in OrderAddress.__struct_fields__)

UNUSED_PAYMENT_STATES = {"Declined", "Cancelled", "Error"}


class _Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    entity_id: str
    read_at: Timestamp
    hash: str | None = None


class _CustomerChanged(_Event, frozen=True, kw_only=True, rename="camel"):
    data: CustomerDocument


class _OrderChanged(_Event, frozen=True, kw_only=True, rename="camel"):
    data: OrderDocument


def map_event(event_type: str, payload: bytes, context: Context) -> list[Record]:
    """Return the records in an event of `docs/vendure-hooks.md`; raise Skip or Reject."""
    reader = READERS.get(event_type)
    if reader is None:
        raise Skip(f"events of the type {event_type!r} are not mirrored")
    try:
        return [reader(payload, context)]
    except msgspec.DecodeError as error:
        raise Reject(f"not as docs/vendure-hooks.md has it: {error}") from None
    except RecursionError:
        raise Reject("not as docs/vendure-hooks.md has it: nested too deeply") from None


def content_hash(document_hash: str | None, context: Context) -> str | None:
    """Return what tells a row made from a document from one made from another, by another mapping, or read otherwise.

    So what an admin sets of a shop that is mirrored already, its phone region or the precision of its money, reaches
    every row with the next reconcile.
    """
    if not document_hash:
        return None
    precision = "" if context.money_precision is None else f".{context.money_precision}"
    return f"{MAPPING_VERSION}.{context.phone_region}{precision}:{document_hash}"


def map_customer(
    document: CustomerDocument, read_at: datetime, context: Context, source_hash: str | None = None
) -> Customer:
    """Return the customer that a document states."""
    fields = document.custom_fields or {}
    return Customer(
        source_id=document.id,
        source_version=read_at,
        email=_email(document.email_address),
        phone_number=phone_digits(document.phone_number, context.phone_region),
        phone_as_entered=text(document.phone_number),
        phone_verified=fields.get("phoneVerified") is True,
        title=text(document.title),
        first_name=text(document.first_name),
        last_name=text(document.last_name),
        has_account=document.user is not None,
        email_verified=document.user is not None and document.user.verified,
        marketing_consent=fields.get("marketingConsent") is True,
        group_names=sorted(group.name for group in document.groups or ()),
        custom_fields=_others(fields, CUSTOMER_FIELDS),
        registered_at=document.created_at,
        source_hash=source_hash,
        addresses=[_address(entry, context) for entry in document.addresses or ()],
    )


def map_order(document: OrderDocument, read_at: datetime, context: Context, source_hash: str | None = None) -> Order:
    """Return the placed order that a document states; raise Skip if it is none."""
    placed_at = _placed_at(document)
    precision = context.money_precision
    exponent = decimals(document.currency_code) if precision is None else precision
    fields = document.custom_fields or {}
    fulfillments = in_order(document.fulfillments or [])
    shipment = _shipment(fulfillments)
    payments = in_order(document.payments or [])
    to, bill_to = document.shipping_address, document.billing_address
    addresses = [address for address in (to, bill_to) if address is not None]
    phones = (phone_digits(address.phone_number, context.phone_region) for address in addresses)
    return Order(
        source_id=document.id,
        source_version=read_at,
        customer_source_id=document.customer.id if document.customer else None,
        order_code=document.code,
        order_state=document.state,
        order_date=placed_at,
        delivery_stage=_stage(fields.get("deliveryStage"), "customFields.deliveryStage"),
        tracking_number=text(fields.get("trackingNumber")) or (text(shipment.tracking_code) if shipment else None),
        carrier=text(shipment.method) if shipment else None,
        payment_method=_payment_method(payments),
        currency=document.currency_code,
        sub_total=money(document.sub_total, exponent),
        shipping=money(document.shipping, exponent),
        tax=money(document.total_with_tax - document.total, exponent),
        discount=money(max(0, -sum(d.amount_with_tax for d in document.discounts or ())), exponent),
        total=money(document.total, exponent),
        total_with_tax=money(document.total_with_tax, exponent),
        total_paid=money(_paid(payments), exponent),
        total_refunded=money(_refunded(payments), exponent),
        coupon_codes=sorted(document.coupon_codes or ()),
        shipping_method=_shipping_method(document),
        shipping_address=_snapshot(to),
        billing_address=_snapshot(bill_to),
        contact_name=next(filter(None, (text(address.full_name) for address in addresses)), None),
        contact_phone=next(filter(None, phones), None),
        contact_email=None,  # Vendure's order has none of its own: it is the customer's, now
        custom_fields=_others(fields, ORDER_FIELDS),
        cancelled_at=document.updated_at if document.state == "Cancelled" else None,
        source_hash=source_hash,
        items=[_item(line, exponent) for line in document.lines or ()],
        stages=_history(document.delivery_stage_changes or [], placed_at),
        payments=[order_payment(payment, exponent) for payment in payments],
        fulfillments=[fulfillment(part) for part in fulfillments],
        events=order_events(document.history),
    )


def _customer_changed(payload: bytes, context: Context) -> Record:
    event = CUSTOMER_CHANGED.decode(payload)
    return map_customer(event.data, event.read_at, context, content_hash(event.hash, context))


def _order_changed(payload: bytes, context: Context) -> Record:
    event = ORDER_CHANGED.decode(payload)
    return map_order(event.data, event.read_at, context, content_hash(event.hash, context))


def _customer_deleted(payload: bytes, _: Context) -> Record:
    event = EVENT.decode(payload)
    return Deletion(entity="customer", source_id=event.entity_id, source_version=event.read_at)


def _order_deleted(payload: bytes, _: Context) -> Record:
    event = EVENT.decode(payload)
    return Deletion(entity="order", source_id=event.entity_id, source_version=event.read_at)


EVENT = msgspec.json.Decoder(_Event)
CUSTOMER_CHANGED = msgspec.json.Decoder(_CustomerChanged)
ORDER_CHANGED = msgspec.json.Decoder(_OrderChanged)

READERS: dict[str, Callable[[bytes, Context], Record]] = {
    "customer.changed": _customer_changed,
    "customer.deleted": _customer_deleted,
    "order.changed": _order_changed,
    "order.deleted": _order_deleted,
}


def _placed_at(document: OrderDocument) -> datetime:
    if document.order_placed_at is None:
        raise Skip("not placed: a cart or a draft")
    if document.type == "Seller" or document.aggregate_order is not None:
        raise Skip("a seller's part of an order: the aggregate order has its lines")
    return document.order_placed_at


def _address(entry: AddressBookEntry, context: Context) -> Address:
    to, bill_to = bool(entry.default_shipping_address), bool(entry.default_billing_address)
    address_type: AddressType = "both" if to == bill_to else "shipping" if to else "billing"
    return Address(
        source_id=entry.id,
        address_type=address_type,
        is_default=to or bill_to,
        full_name=text(entry.full_name),
        company=text(entry.company),
        street_line_1=text(entry.street_line1),
        street_line_2=text(entry.street_line2),
        city=text(entry.city),
        province=text(entry.province),
        postal_code=text(entry.postal_code),
        country_code=text(entry.country.code) if entry.country else None,
        country_name=text(entry.country.name) if entry.country else None,
        phone_number=phone_digits(entry.phone_number, context.phone_region),
        phone_as_entered=text(entry.phone_number),
        custom_fields=entry.custom_fields or {},
    )


def _item(line: OrderLine, exponent: int) -> Item:
    variant, fields = line.product_variant, line.custom_fields or {}
    return Item(
        source_id=line.id,
        sku=text(variant.sku),
        product_name=(text(variant.product.name) if variant.product else None) or variant.name,
        variant_name=variant.name,
        quantity=line.quantity,
        unit_price_with_tax=money(line.unit_price_with_tax, exponent),
        line_total_with_tax=money(line.prorated_line_price_with_tax, exponent),
        patch_enabled=fields.get("patchEnabled") is True,
        patch_type=text(fields.get("patchType")),
        print_name=text(fields.get("printName")),
        print_number=text(fields.get("printNumber")),
        is_pre_order=fields.get("preOrder") is True,
        custom_fields=_others(fields, LINE_FIELDS),
    )


def _history(changes: list[DeliveryStageChange], placed_at: datetime) -> list[StageChange]:
    """Return the delivery history: it begins with the placing, whatever the engine noted before."""
    stages = [
        StageChange(
            source_id="placed",
            from_stage=None,
            stage="ORDER_CONFIRMED",
            tracking_number=None,
            changed_at=placed_at,
        )
    ]
    for change in changes:
        stages.append(
            StageChange(
                source_id=change.id,
                from_stage=stages[-1].stage,
                stage=_stage(change.stage, "deliveryStageChanges[].stage"),
                tracking_number=text(change.tracking_number),
                changed_at=max(change.changed_at, placed_at),
            )
        )
    return stages


def _stage(value: Any, where: str) -> DeliveryStage:
    if text(value) is None:
        return "ORDER_CONFIRMED"
    if value not in DELIVERY_STAGES:
        raise Reject(f"{where}: must be one of {', '.join(DELIVERY_STAGES)}")
    return cast(DeliveryStage, value)


def _payment_method(payments: list[Payment]) -> str | None:
    used = [payment for payment in payments if payment.state not in UNUSED_PAYMENT_STATES]
    return (used or payments)[-1].method if payments else None


def _paid(payments: list[Payment]) -> int:
    return sum(payment.amount for payment in payments if payment.state == "Settled")


def _refunded(payments: list[Payment]) -> int:
    return sum(refund.total for payment in payments for refund in payment.refunds or () if refund.state == "Settled")


def _shipment(fulfillments: list[Fulfillment]) -> Fulfillment | None:
    """Return the latest fulfilment that stands."""
    return next((f for f in reversed(fulfillments) if f.state != "Cancelled"), None)


def _shipping_method(document: OrderDocument) -> str | None:
    names = (text(line.shipping_method.name) for line in document.shipping_lines or () if line.shipping_method)
    return ", ".join(sorted(filter(None, names))) or None


def _snapshot(address: OrderAddress | None) -> Json | None:
    """Return an order's address as JSON with our names; None if nothing was entered."""
    if address is None:
        return None
    values = zip(SNAPSHOT_NAMES, msgspec.structs.astuple(address), strict=True)
    return {name: entered for name, value in values if (entered := text(value)) is not None} or None


def _email(value: str | None) -> str | None:
    entered = text(value)
    return entered.lower() if entered else None


def _others(fields: Json, taken: set[str]) -> Json:
    return {name: value for name, value in fields.items() if name not in taken} if fields else {}
