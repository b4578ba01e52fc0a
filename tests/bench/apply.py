"""Stored events → tables: the drain, and the two ways it is measured against, with the very rows it made.

The floors get their rows ready-made and skip all that the drain does: claiming, mapping, versions, triggers, settling.
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
from sync.engines.vendure import payloads
from tests.bench.shop import ORDERS_PER_CUSTOMER, customer_change, order_change
from tests.hooks import body_of

TABLES = (
    "customers",
    "customer_addresses",
    "customer_orders_summary",
    "customer_order_items",
    "order_delivery_status",
    "order_delivery_status_events",
)
"""In the order in which they refer to each other."""

COPY_CONNECTIONS = 2
ROW_CONNECTIONS = 8
HOOK_EVENTS = 100


class Rows(msgspec.Struct, frozen=True):
    """What the tables hold: per table its columns and rows, and the same as binary COPY, in parts."""

    columns: dict[str, list[str]]
    rows: dict[str, list[asyncpg.Record]]
    copies: dict[str, list[bytes]]


async def fill_inbox(dsn: str, orders: int) -> int:
    """Accept so many orders and their customers; return how many events that is."""
    connection = await asyncpg.connect(dsn)
    integration = await connection.fetchval("select id from mirror.integrations")
    await connection.close()
    stored = 0
    async with connect(dsn) as database:
        for changes in _slices(orders):
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
    rows = {table: await connection.fetch(f"select {_list(columns[table])} from {table}") for table in TABLES}
    copies = {table: [await _copy(connection, table, columns[table], part) for part in (0, 1)] for table in TABLES}
    await connection.close()
    return Rows(columns, rows, copies)


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


async def upsert_rows(dsn: str, rows: Rows, events: int) -> float:
    """Write the rows by an upsert each over eight connections, table by table; return events per second."""
    connections = await _connect_to_bare_tables(dsn, ROW_CONNECTIONS)
    started = time.perf_counter()
    for table in TABLES:
        pending = iter(rows.rows[table])
        await asyncio.gather(*(_upsert(c, table, rows.columns[table], pending) for c in connections))
    elapsed = time.perf_counter() - started
    await _check_and_close(connections, rows)
    return events / elapsed


async def _connect_to_bare_tables(dsn: str, count: int) -> list[asyncpg.Connection]:
    """Open connections, with the tables' own triggers off: the rows are ready-made. Foreign keys stay."""
    connections = [await asyncpg.connect(dsn) for _ in range(count)]
    for table in TABLES:
        await connections[0].execute(f"alter table {table} disable trigger user")
    return connections


def _slices(orders: int) -> Iterator[list[dict[str, Any]]]:
    changes = [customer_change(number) for number in range(-(-orders // ORDERS_PER_CUSTOMER))]
    changes += [order_change(number) for number in range(orders)]
    for start in range(0, len(changes), HOOK_EVENTS):
        yield changes[start : start + HOOK_EVENTS]


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


async def _upsert(
    connection: asyncpg.Connection, table: str, columns: list[str], pending: Iterator[asyncpg.Record]
) -> None:
    values = ", ".join(f"${position}" for position in range(1, len(columns) + 1))
    updates = ", ".join(f"{column} = excluded.{column}" for column in columns if column != "id")
    statement = await connection.prepare(
        f"insert into {table} ({_list(columns)}) values ({values}) on conflict (id) do update set {updates}"
    )
    for row in pending:
        await statement.fetch(*row)


async def _check_and_close(connections: list[asyncpg.Connection], rows: Rows) -> None:
    for table in TABLES:
        found = await connections[0].fetchval(f"select count(*) from {table}")
        if found != len(rows.rows[table]):
            raise RuntimeError(f"{table} has {found} instead of {len(rows.rows[table])} rows")
    for connection in connections:
        await connection.close()


def _list(columns: list[str]) -> str:
    return ", ".join(columns)
