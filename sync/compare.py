"""Does the mirror equal the engine? Compares the tables with documents that the engine gave, field by field.

The documents go through the same mapping as hooks; what the tables hold is read back and compared with the
outcome, whole entities at a time. So it also finds what should not be there: a line too many, a customer that
the engine deleted.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from sync.database import Database
from sync.engines.base import Context
from sync.engines.vendure.documents import CustomerDocument, OrderDocument
from sync.engines.vendure.mapping import map_customer, map_order
from sync.errors import Skip
from sync.records import Customer, Delivery, Order

UNREAD = datetime.fromtimestamp(0, UTC)
"""Version of a document whose moment of reading is unknown; versions are not compared."""


DERIVED = {"source_version", "source_hash", "contact_email"}
"""Fields that do not stem from the document alone: contact_email may be the customer's."""


class Documents(msgspec.Struct, frozen=True, rename="camel"):
    """What the engine has, in the shape of `docs/vendure-hooks.md`."""

    customers: list[CustomerDocument]
    orders: list[OrderDocument]
    deleted_customers: list[str] = []


class Difference(msgspec.Struct, frozen=True):
    """An entity that is not in the mirror as it is in the engine."""

    entity: str
    source_id: str
    fields: list[str]
    """Names of the fields that differ; ["missing"] or ["not deleted"]."""


class Comparison(msgspec.Struct, frozen=True):
    """The outcome: how many entities were compared, and those that differ."""

    entities: int
    differences: list[Difference]

    @property
    def equal(self) -> int:
        """How many entities are equal."""
        return self.entities - len(self.differences)


class _CustomerRow(Customer, frozen=True, kw_only=True):
    source_version: datetime | None  # type: ignore[assignment]
    deleted_at: datetime | None


class _Echo(Delivery, frozen=True, kw_only=True):
    source_id: str


class _OrderRow(Order, frozen=True, kw_only=True):
    deleted_at: datetime | None
    echoes: list[_Echo]
    """Entries of the engine's history that came of what admins set here: our history has the admins' own instead."""


class _Tombstone(msgspec.Struct, frozen=True):
    source_id: str
    deleted_at: datetime | None


PARTS_OF_PARTS = {"refunds", "lines"}


async def compare(database: Database, integration_id: UUID, documents: Documents, context: Context) -> Comparison:
    """Compare every customer and placed order of `documents` with the tables."""
    customers = [map_customer(document, UNREAD, context) for document in documents.customers]
    orders = [order for document in documents.orders if (order := _placed(document, context))]
    deleted = documents.deleted_customers

    async def read(function: str, source_ids: list[str]) -> str:
        rows: str = await database.call(function, p_integration_id=integration_id, p_source_ids=source_ids)
        return rows

    customer_rows = await read("read_customers", [customer.source_id for customer in customers])
    order_rows = await read("read_orders", [order.source_id for order in orders])
    deleted_rows = await read("read_customers", deleted)
    differences = [
        *_differences(customers, msgspec.json.decode(customer_rows, type=list[_CustomerRow])),
        *_differences(orders, msgspec.json.decode(order_rows, type=list[_OrderRow])),
        *_undeleted(deleted, msgspec.json.decode(deleted_rows, type=list[_Tombstone])),
    ]
    return Comparison(len(customers) + len(orders) + len(deleted), differences)


def _placed(document: OrderDocument, context: Context) -> Order | None:
    try:
        return map_order(document, UNREAD, context)
    except Skip:
        return None


def _differences(expected: Sequence[Customer | Order], rows: Sequence[_CustomerRow | _OrderRow]) -> list[Difference]:
    found = {row.source_id: row for row in rows if row.deleted_at is None}
    return [
        Difference(type(record).__name__.lower(), record.source_id, fields)
        for record in expected
        if (fields := _differing_fields(record, found.get(record.source_id)))
    ]


def _undeleted(expected: list[str], rows: Sequence[_Tombstone]) -> list[Difference]:
    gone = {row.source_id for row in rows if row.deleted_at is not None}
    return [Difference("customer", source_id, ["not deleted"]) for source_id in expected if source_id not in gone]


def _differing_fields(record: Customer | Order, row: _CustomerRow | _OrderRow | None) -> list[str]:
    if row is None:
        return ["missing"]
    if isinstance(record, Order) and isinstance(row, _OrderRow):
        row = _with_echoes(row, record)
    names = (name for name in record.__struct_fields__ if name not in DERIVED)
    return [name for name in names if _sorted(getattr(record, name)) != _sorted(getattr(row, name))]


def _with_echoes(row: _OrderRow, order: Order) -> _OrderRow:
    """Complete the history with the engine's entries that echo an admin's: only what they say can be compared.

    When it was set, and from which stage, the engine knows of its own setting, and the mirror of the admin's.
    """
    told = {(change.source_id, change.stage, change.tracking_number): change for change in order.stages}
    echoes = [told.get((echo.source_id, echo.stage, echo.tracking_number), echo) for echo in row.echoes]
    return msgspec.structs.replace(row, stages=[*row.stages, *echoes])


def _sorted(value: Any) -> Any:
    """Return the parts of an entity, and theirs (a payment's refunds), in an order that both sides share."""
    if isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
        return sorted(map(_with_sorted_parts, value), key=lambda part: part.source_id)
    return value


def _with_sorted_parts(part: Any) -> Any:
    lists = {name: _sorted(getattr(part, name)) for name in part.__struct_fields__ if name in PARTS_OF_PARTS}
    return msgspec.structs.replace(part, **lists) if lists else part
