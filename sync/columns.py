"""Records → columnar JSON: one array per column, as `mirror.apply_events` takes them.

One document per slice with an array per column costs Postgres a third of what a document per row does
(`docs/performance.md`).
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from sync.records import Address, Customer, Deletion, Item, Order, Record, StageChange

Columns = dict[str, list[Any]]

LISTS = {"group_names", "coupon_codes"}
"""Fields that travel as JSON text: an array of arrays would have to be rectangular."""


def record_columns(records: Iterable[Record]) -> dict[str, Columns]:
    """Return the sections of `mirror.apply_events` for these records, each entity at most once."""
    customers: list[Customer] = []
    orders: list[Order] = []
    deletions: dict[str, list[Deletion]] = {"customer": [], "order": []}
    for record in records:
        if isinstance(record, Customer):
            customers.append(record)
        elif isinstance(record, Order):
            orders.append(record)
        else:
            deletions[record.entity].append(record)
    return {
        "customers": _columns(Customer, customers),
        "addresses": _part_columns(Address, "customer_source_id", [(c.source_id, c.addresses) for c in customers]),
        "deleted_customers": _columns(Deletion, deletions["customer"]),
        "orders": _columns(Order, orders),
        "items": _part_columns(Item, "order_source_id", [(o.source_id, o.items) for o in orders]),
        "stages": _part_columns(StageChange, "order_source_id", [(o.source_id, o.stages) for o in orders]),
        "deleted_orders": _columns(Deletion, deletions["order"]),
    }


def _columns(record_type: type[msgspec.Struct], records: list[Any]) -> Columns:
    columns: Columns = {}
    for name in COLUMNS[record_type]:
        values = [getattr(record, name) for record in records]
        columns[name] = [msgspec.json.encode(value).decode() for value in values] if name in LISTS else values
    return columns


def _part_columns(part_type: type[msgspec.Struct], owner: str, parts: list[tuple[str, list[Any]]]) -> Columns:
    columns = _columns(part_type, [part for _, owned in parts for part in owned])
    return {owner: [source_id for source_id, owned in parts for _ in owned], **columns}


COLUMNS = {
    Customer: [name for name in Customer.__struct_fields__ if name != "addresses"],
    Address: Address.__struct_fields__,
    Deletion: ["source_id", "source_version"],
    Order: [name for name in Order.__struct_fields__ if name not in {"items", "stages"}],
    Item: Item.__struct_fields__,
    StageChange: StageChange.__struct_fields__,
}
"""Fields that are columns, by record type; the parts of a record have a section of their own."""
