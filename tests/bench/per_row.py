"""What the drain is measured against: the same records, row by row, over eight connections, with all triggers.

As a careful hook receiver would: a transaction for each order or customer, in it an upsert for each row that arrives,
by statements that are prepared once. It gets its records ready-made, takes none from the inbox and settles none; it
compares versions, but removes no line that is gone. Delivery status and history, statistics and audit come from the
triggers, as they do for the drain. It says that it is the engine, so that its connections take turns together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from sync.columns import COLUMNS
from sync.records import Address, Customer, Item, Order, OrderEvent, OrderPayment, Record

CONNECTIONS = 8
ACTOR = "select set_config('mirror.actor', 'engine:vendure', false)"
NOT_IN_THE_TABLE = {"carrier", "customer_source_id"}
PAYMENT = ("source_id", "method", "amount", "status", "transaction_id", "failure_reason", "initiated_at")


class _Table(msgspec.Struct, frozen=True):
    """How a record of one kind is written."""

    name: str
    fields: Sequence[str]
    """Of the record."""
    given: dict[str, str]
    """Columns that the record does not have → what they are."""
    key: str
    is_versioned: bool = True

    def statement(self) -> str:
        first = 1 + sum("$" in value for value in self.given.values())
        columns = [*self.given, *self.fields]
        values = [*self.given.values(), *(f"${first + n}" for n in range(len(self.fields)))]
        updates = ", ".join(f"{column} = excluded.{column}" for column in columns)
        newer = "where t.source_version < excluded.source_version" if self.is_versioned else ""
        return (
            f"insert into public.{self.name} as t ({', '.join(columns)}) values ({', '.join(values)}) "
            f"on conflict ({self.key}) do update set {updates} {newer} returning id"
        )

    def values(self, record: Any) -> list[Any]:
        return [_plain(getattr(record, field)) for field in self.fields]


def _tables(store: UUID) -> dict[type, _Table]:
    engine = {"store_id": f"'{store}'", "source": "'vendure'"}
    natural_key = "store_id, source, source_id"
    orders = [name for name in COLUMNS[Order] if name not in NOT_IN_THE_TABLE]
    customer = f"(select id from public.customers where store_id = '{store}' and source = 'vendure' and source_id = $1)"
    owner = {"order_summary_id": "$1", "source_version": "$2", "currency": "$3"}
    told = {"shop_amount": "$4", "shop_state": "$5"}
    return {
        Customer: _Table("customers", COLUMNS[Customer], {**engine, "is_active": "true"}, natural_key),
        Address: _Table(
            "customer_addresses", COLUMNS[Address], {**engine, "customer_id": "$1", "source_version": "$2"}, natural_key
        ),
        Order: _Table("customer_orders_summary", orders, {**engine, "customer_id": customer}, natural_key),
        Item: _Table(
            "customer_order_items",
            COLUMNS[Item],
            {"store_id": f"'{store}'", **owner},
            "order_summary_id, store_id, source_id",
        ),
        OrderPayment: _Table("payments", PAYMENT, {**engine, **owner, **told}, "order_summary_id, source, source_id"),
        OrderEvent: _Table(
            "order_events",
            COLUMNS[OrderEvent],
            {"store_id": f"'{store}'", "order_summary_id": "$1"},
            "order_summary_id, store_id, source_id",
            is_versioned=False,
        ),
    }


async def upsert_rows(dsn: str, records: Sequence[Record]) -> float:
    """Write all; return records per second."""
    connections = [await asyncpg.connect(dsn) for _ in range(CONNECTIONS)]
    tables = _tables(await connections[0].fetchval("select id from public.stores"))
    for connection in connections:
        await connection.execute(ACTOR)
    started = time.perf_counter()
    for kind in (Customer, Order):
        pending = (record for record in records if isinstance(record, kind))
        await asyncio.gather(*(_write_all(connection, tables, pending) for connection in connections))
    elapsed = time.perf_counter() - started
    found = await connections[0].fetchval(
        "select (select count(*) from public.customers) + (select count(*) from public.order_delivery_status)"
    )
    if found != len(records):
        raise RuntimeError(f"{found} instead of {len(records)} records are there")
    for connection in connections:
        await connection.close()
    return len(records) / elapsed


async def _write_all(connection: asyncpg.Connection, tables: dict[type, _Table], pending: Iterator[Any]) -> None:
    statements = {kind: await connection.prepare(table.statement()) for kind, table in tables.items()}
    for record in pending:
        async with connection.transaction():
            if isinstance(record, Order):
                customer = record.customer_source_id
                written = await statements[Order].fetchval(customer, *tables[Order].values(record))
                for item in record.items:
                    owner = (written, record.source_version, record.currency)
                    await statements[Item].fetchval(*owner, *tables[Item].values(item))
                for payment in record.payments:
                    told = (written, record.source_version, record.currency, payment.amount, payment.source_status)
                    await statements[OrderPayment].fetchval(*told, *tables[OrderPayment].values(payment))
                for event in record.events:
                    await statements[OrderEvent].fetchval(written, *tables[OrderEvent].values(event))
            else:
                written = await statements[Customer].fetchval(*tables[Customer].values(record))
                for address in record.addresses:
                    book = (written, record.source_version)
                    await statements[Address].fetchval(*book, *tables[Address].values(address))


def _plain(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else value
