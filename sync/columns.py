"""Records → columnar JSON: one array per column, as `mirror.apply_events` takes them.

One document per slice with an array per column costs Postgres a third of what a document per row does
(`docs/performance.md`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple

from sync.records import (
    Address,
    Customer,
    Deletion,
    Fulfillment,
    Invoice,
    Item,
    Order,
    OrderEvent,
    OrderPayment,
    OrderRefund,
    Payment,
    Plan,
    Record,
    Refund,
    StageChange,
    Subscription,
)

Columns = dict[str, list[Any]]

PROVIDER_SECTIONS: dict[type[Any], str] = {
    Payment: "provider_payments",
    Refund: "provider_refunds",
    Plan: "subscription_plans",
    Subscription: "subscriptions",
    Invoice: "invoices",
}

ORDER_PARTS = {"items", "stages", "payments", "fulfillments", "events"}

LISTS = {"group_names", "coupon_codes", "lines", "tax_breakdown"}
"""Fields that travel as JSON text: an array of arrays would have to be rectangular."""


def record_columns(records: Iterable[Record]) -> dict[str, Columns]:
    """Return the sections of `mirror.apply_events` for these records, each entity at most once."""
    customers: list[Customer] = []
    orders: list[Order] = []
    deletions: dict[str, list[Deletion]] = {"customer": [], "order": []}
    money: list[Record] = []
    for record in records:
        if isinstance(record, Customer):
            customers.append(record)
        elif isinstance(record, Order):
            orders.append(record)
        elif isinstance(record, Deletion) and record.entity in deletions:
            deletions[record.entity].append(record)
        else:
            money.append(record)
    sections = {
        "customers": _columns(Customer, customers),
        "addresses": _part_columns(Address, "customer_source_id", [(c.source_id, c.addresses) for c in customers]),
        "deleted_customers": _columns(Deletion, deletions["customer"]),
        "orders": _columns(Order, orders),
        "items": _part_columns(Item, "order_source_id", [(o.source_id, o.items) for o in orders]),
        "stages": _part_columns(StageChange, "order_source_id", [(o.source_id, o.stages) for o in orders]),
        "deleted_orders": _columns(Deletion, deletions["order"]),
    }
    return {**sections, **_money_of_orders(orders), **_money_of_providers(money)}


def _money_of_orders(orders: list[Order]) -> dict[str, Columns]:
    """Return the sections of what orders say beyond their lines; none for what none of them says."""
    payments = [(order.source_id, payment) for order in orders for payment in order.payments]
    fulfillments = [(order.source_id, part) for order in orders for part in order.fulfillments]
    events = [(order.source_id, part) for order in orders for part in order.events]
    sections: dict[str, Columns] = {}
    if payments:
        sections["payments"] = _owned_columns(OrderPayment, payments)
    if fulfillments:
        sections["fulfillments"] = _owned_columns(Fulfillment, fulfillments)
    if events:
        sections["order_events"] = _owned_columns(OrderEvent, events)
    if refunds := [(owner, payment.source_id, refund) for owner, payment in payments for refund in payment.refunds]:
        sections["refunds"] = {
            "order_source_id": [owner for owner, _, _ in refunds],
            "payment_source_id": [payment for _, payment, _ in refunds],
            **_columns(OrderRefund, [refund for _, _, refund in refunds]),
        }
    return sections


def _owned_columns(part_type: type[msgspec.Struct], owned: Sequence[tuple[str, Any]]) -> Columns:
    owners = {"order_source_id": [owner for owner, _ in owned]}
    return {**owners, **_columns(part_type, [part for _, part in owned])}


def _money_of_providers(records: list[Record]) -> dict[str, Columns]:
    """Return the sections of `mirror.upsert_money`; none for kinds of which there are no records."""
    deletions = [record for record in records if isinstance(record, Deletion)]
    sections = {
        name: _columns(record_type, chosen)
        for record_type, name in PROVIDER_SECTIONS.items()
        if (chosen := [record for record in records if isinstance(record, record_type)])
    }
    if deletions:
        entities = {"entity": [deletion.entity for deletion in deletions]}
        sections["deleted_money"] = {**entities, **_columns(Deletion, deletions)}
    return sections


def _columns(record_type: type[msgspec.Struct], records: list[Any]) -> Columns:
    """Return a list for each column; a column without a value is left out, which costs Postgres less to read."""
    if not records:
        return {name: [] for name in COLUMNS[record_type]}
    values = dict(zip(record_type.__struct_fields__, zip(*map(astuple, records), strict=True), strict=True))
    told = (name for name in COLUMNS[record_type] if any(value is not None for value in values[name]))
    columns: Columns = {name: list(values[name]) for name in told}
    for name in LISTS & columns.keys():
        columns[name] = [msgspec.json.encode(value).decode() for value in columns[name]]
    return columns


def _part_columns(part_type: type[msgspec.Struct], owner: str, parts: list[tuple[str, list[Any]]]) -> Columns:
    columns = _columns(part_type, [part for _, owned in parts for part in owned])
    return {owner: [source_id for source_id, owned in parts for _ in owned], **columns}


COLUMNS = {
    Customer: [name for name in Customer.__struct_fields__ if name != "addresses"],
    Address: Address.__struct_fields__,
    Deletion: ["source_id", "source_version"],
    Order: [name for name in Order.__struct_fields__ if name not in ORDER_PARTS],
    Item: Item.__struct_fields__,
    StageChange: StageChange.__struct_fields__,
    OrderPayment: [name for name in OrderPayment.__struct_fields__ if name != "refunds"],
    OrderRefund: OrderRefund.__struct_fields__,
    Fulfillment: Fulfillment.__struct_fields__,
    OrderEvent: OrderEvent.__struct_fields__,
    Payment: Payment.__struct_fields__,
    Refund: Refund.__struct_fields__,
    Plan: Plan.__struct_fields__,
    Subscription: Subscription.__struct_fields__,
    Invoice: Invoice.__struct_fields__,
}
"""Fields that are columns, by record type; the parts of a record have a section of their own."""
