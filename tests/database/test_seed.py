"""`supabase/seed.sql`: a developer's local start shows a shop that could be real, and a real shop is left alone."""

from __future__ import annotations

import asyncpg
import pytest

from sync.migrate import supabase_folder
from tests.contents import PROVIDERS, TABLES, read_contents
from tests.factory import customer_changed
from tests.mirror import Mirror

SEED = (supabase_folder() / "seed.sql").read_text()
STAGES = {"ORDER_CONFIRMED", "SOURCING", "ARRIVED", "DISPATCHED", "DELIVERED"}


@pytest.fixture
async def shop(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A connection to a database with the example shop."""
    await connection.execute(SEED)
    return connection


async def column(connection: asyncpg.Connection, query: str) -> list[object]:
    return [row[0] for row in await connection.fetch(query)]


async def test_every_table_that_an_admin_opens_shows_something(shop: asyncpg.Connection) -> None:
    for table in (
        *(TABLES.keys() - PROVIDERS),
        "import_batches",
        "order_batch_assignments",
        "supplier_purchase_lists",
        "order_tracking",
    ):
        assert await shop.fetchval(f"select count(*) from public.{table}") > 0, table


async def test_there_are_orders_at_all_stages_and_their_histories_go_over_weeks(shop: asyncpg.Connection) -> None:
    at_stage = "select distinct stage::text from public.order_delivery_status where not is_cancelled"
    assert set(await column(shop, at_stage)) == STAGES - {"SOURCING"}
    assert set(await column(shop, "select distinct stage::text from public.order_delivery_status_events")) == STAGES
    spread = "select max(updated_at) - min(updated_at) > interval '4 weeks' from public.order_delivery_status_events"
    assert await shop.fetchval(spread)
    assert await shop.fetchval("select max(updated_at) <= now() from public.order_delivery_status_events")


async def test_one_batch_has_arrived_and_another_collects(shop: asyncpg.Connection) -> None:
    batches = await shop.fetch("select status::text, order_count from public.import_batches order by batch_number")
    assert [tuple(row) for row in batches] == [("arrived", 4), ("collecting", 3)]
    assert await shop.fetchval("select count(*) from public.supplier_purchase_lists") == 3


async def test_something_needs_attention(shop: asyncpg.Connection) -> None:
    reasons = "select distinct reason from public.orders_needing_attention order by 1"
    assert await column(shop, reasons) == ["cancelled in batch", "no tracking number", "stuck"]


async def test_a_second_time_changes_nothing(shop: asyncpg.Connection) -> None:
    before = await read_contents(shop)
    await shop.execute(SEED)
    assert await read_contents(shop) == before


async def test_a_shop_that_has_customers_is_left_alone(mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1))
    await mirror.connection.execute(SEED)
    assert await mirror.column("select source_id from public.customers") == ["1"]
    assert await mirror.column("select name from public.stores") == ["My shop"]
