"""Stored events → tables: the drain, and the floor below it, COPY, with the very rows that the drain made.

The floor gets its rows ready-made and skips all that the drain does: claiming, mapping, versions, triggers, settling.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec

from sync import inbox
from sync.database import connect
from sync.drain import Drain
from sync.engines.base import Context
from sync.engines.registry import ENGINES
from sync.engines.vendure import payloads
from sync.records import Record
from tests.bench.shop import ORDERS_PER_CUSTOMER, customer_change, order_change
from tests.hooks import body_of

TABLES = (
    "customers",
    "customer_addresses",
    "customer_orders_summary",
    "customer_order_items",
    "order_delivery_status",
    "order_delivery_status_events",
    "payments",
    "refunds",
    "fulfillments",
    "order_events",
)
"""In the order in which they refer to each other."""

COPY_CONNECTIONS = 2
HOOK_EVENTS = 100


class Rows(msgspec.Struct, frozen=True):
    """What the tables hold: per table its columns, how many rows, and those as binary COPY, in parts."""

    columns: dict[str, list[str]]
    counts: dict[str, int]
    copies: dict[str, list[bytes]]


async def fill_inbox(dsn: str, orders: int, first: int = 0) -> int:
    """Accept so many orders and their customers; return how many events that is."""
    connection = await asyncpg.connect(dsn)
    integration = await connection.fetchval("select id from mirror.integrations")
    await connection.close()
    stored = 0
    async with connect(dsn) as database:
        for changes in slices(orders, first):
            events = payloads.read(body_of(*changes))
            stored += sum(await inbox.accept(database, [(integration, event) for event in events]))
    return stored


async def drain(dsn: str, events: int) -> float:
    """Apply all; return events per second."""
    async with connect(dsn) as database:
        await database.rows("list_stores")  # connected before the clock starts
        started = time.perf_counter()
        counts = await Drain(database).run()
        elapsed = time.perf_counter() - started
    if counts.applied != events:
        raise RuntimeError(f"{counts} instead of {events} applied events")
    return events / elapsed


async def read_rows(dsn: str) -> Rows:
    """Read what the drain wrote."""
    connection = await asyncpg.connect(dsn)
    columns = {table: await _columns(connection, table) for table in TABLES}
    counts = {table: await connection.fetchval(f"select count(*) from {table}") for table in TABLES}
    copies = {table: [await _copy(connection, table, columns[table], part) for part in (0, 1)] for table in TABLES}
    await connection.close()
    return Rows(columns, counts, copies)


async def copy_rows(dsn: str, rows: Rows, events: int) -> float:
    """Write the rows by binary COPY over two connections, table by table; return events per second."""
    connections = await _connect_to_bare_tables(dsn, COPY_CONNECTIONS)
    started = time.perf_counter()
    for table in TABLES:
        parts = zip(connections, rows.copies[table], strict=True)
        await asyncio.gather(*(_write_copy(c, table, rows.columns[table], part) for c, part in parts))
    elapsed = time.perf_counter() - started
    await _check_and_close(connections, rows)
    return events / elapsed


async def _connect_to_bare_tables(dsn: str, count: int) -> list[asyncpg.Connection]:
    """Open connections, with the tables' own triggers off: the rows are ready-made. Foreign keys stay."""
    connections = [await asyncpg.connect(dsn) for _ in range(count)]
    for table in TABLES:
        await connections[0].execute(f"alter table {table} disable trigger user")
    return connections


def slices(orders: int, first: int = 0) -> Iterator[list[dict[str, Any]]]:
    """Yield the events of so many customers and orders, a hook's worth at a time."""
    customers = range(first // ORDERS_PER_CUSTOMER, -(-(first + orders) // ORDERS_PER_CUSTOMER))
    changes = [customer_change(number) for number in customers]
    changes += [order_change(number) for number in range(first, first + orders)]
    for start in range(0, len(changes), HOOK_EVENTS):
        yield changes[start : start + HOOK_EVENTS]


def map_all(orders: int) -> list[Record]:
    """Return the records of those events."""
    context = Context(phone_region="LK")
    return [
        record
        for changes in slices(orders)
        for event in payloads.read(body_of(*changes))
        for record in ENGINES["vendure"].map(event.event_type, bytes(event.payload), context)
    ]


async def _columns(connection: asyncpg.Connection, table: str) -> list[str]:
    query = (
        "select column_name from information_schema.columns where table_schema = 'public' and table_name = $1 "
        "and is_generated = 'NEVER' order by ordinal_position"
    )
    return [row["column_name"] for row in await connection.fetch(query, table)]


async def _copy(connection: asyncpg.Connection, table: str, columns: list[str], part: int) -> bytes:
    buffer = io.BytesIO()
    query = f"select {_list(columns)} from {table} where abs(hashtext(id::text)) % {COPY_CONNECTIONS} = {part}"
    await connection.copy_from_query(query, output=buffer, format="binary")
    return buffer.getvalue()


async def _write_copy(connection: asyncpg.Connection, table: str, columns: list[str], part: bytes) -> None:
    await connection.copy_to_table(table, source=io.BytesIO(part), columns=columns, format="binary")


async def _check_and_close(connections: list[asyncpg.Connection], rows: Rows) -> None:
    for table in TABLES:
        found = await connections[0].fetchval(f"select count(*) from {table}")
        if found != rows.counts[table]:
            raise RuntimeError(f"{table} has {found} instead of {rows.counts[table]} rows")
    for connection in connections:
        await connection.close()


def _list(columns: list[str]) -> str:
    return ", ".join(columns)
