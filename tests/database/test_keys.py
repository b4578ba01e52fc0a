"""Keys: ids are drawn many at once, and a part of an order or a customer is in the store of the whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from sync.database import connect
from sync.migrate import migrate, migrations, supabase_folder
from tests.factory import Document, address, at, customer_changed, line, order_changed
from tests.mirror import Mirror

PARTS = (
    "customer_addresses",
    "customer_order_items",
    "fulfillments",
    "order_events",
    "order_delivery_status",
    "order_delivery_status_events",
)
BEFORE = "20261201100000"
"""The migration since when a part names its whole and its store by one key."""
ANOTHER_STORE = """
    insert into public.stores (slug, name, currency, phone_region, timezone, locale)
    select 'two', name, currency, phone_region, timezone, locale from public.stores
    returning id
"""
WRITABLE = """
    select string_agg(format('%I', column_name), ', ') from information_schema.columns
    where table_schema = 'public' and table_name = $1 and is_generated = 'NEVER'
        and column_name not in ('id', 'store_id')
"""


def everything() -> list[Document]:
    """Return events that put a row into each table of parts."""
    fulfilment = {"id": "1", "state": "Shipped", "createdAt": at(0), "lines": []}
    transition = {"from": "Draft", "to": "PaymentSettled"}
    entry = {"id": "1", "type": "ORDER_STATE_TRANSITION", "createdAt": at(0), "data": transition}
    return [
        customer_changed("1", 1, addresses=[address("1")]),
        order_changed("1", 1, lines=[line("1")], fulfillments=[fulfilment], history={"items": [entry]}),
    ]


async def test_ids_that_are_drawn_together_are_in_order_and_all_different(connection: asyncpg.Connection) -> None:
    slices = [await connection.fetchval("select mirror.uuid_v7s(1000)") for _ in range(20)]
    drawn = [UUID(str(id_)) for ids in slices for id_ in ids]
    assert len(set(drawn)) == 20_000
    assert {(id_.version, id_.variant) for id_ in drawn} == {(7, "specified in RFC 4122")}
    assert all(ids == sorted(ids) for ids in slices)


@pytest.mark.parametrize("count", ["0", "-1", "null"])
async def test_of_none_there_are_none(connection: asyncpg.Connection, count: str) -> None:
    assert await connection.fetchval(f"select mirror.uuid_v7s({count})") == []


async def test_a_part_is_in_the_store_of_the_whole(mirror: Mirror, connection: asyncpg.Connection) -> None:
    await mirror.take(*everything())
    store = await connection.fetchval(ANOTHER_STORE)
    for part in PARTS:
        columns = await connection.fetchval(WRITABLE, part)
        copied = f"insert into public.{part} (store_id, {columns}) select $1, {columns} from public.{part}"
        with pytest.raises(asyncpg.ForeignKeyViolationError, match=f'table "{part}"'):
            await connection.execute(copied, store)


async def test_the_migration_brings_home_what_is_in_another_store(platform_database: str, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    for migration in migrations(supabase_folder()):
        if migration.version < BEFORE:
            shutil.copy(migration.file, tmp_path / "migrations")
    await migrate(platform_database, folder=tmp_path)
    connection = await asyncpg.connect(platform_database)
    async with connect(platform_database) as database:
        await (await Mirror.over(database, connection)).take(*everything())
    store = await connection.fetchval(ANOTHER_STORE)
    for part in PARTS:
        await connection.execute(f"alter table public.{part} disable trigger user")
        assert await connection.execute(f"update public.{part} set store_id = $1", store) != "UPDATE 0"
        await connection.execute(f"alter table public.{part} enable trigger user")
    await migrate(platform_database)
    strayed = [
        await connection.fetchval(f"select count(*) from public.{part} where store_id = $1", store) for part in PARTS
    ]
    await connection.close()
    assert strayed == [0] * len(PARTS)
