"""In a shop of 20,000 orders: roll-ups are equal to counting anew, and no report reads a big table whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.bench.large_shop import make_large_shop
from tests.bench.reports import REPORTS, find_scans
from tests.postgres import TestServer

ORDERS = 20_000

COUNTED = """
    select stage::text, count(*)::bigint from public.order_delivery_status where not is_cancelled group by 1 order by 1
"""
KEPT_COUNTS = """
    select stage::text, sum(orders)::bigint from mirror.delivery_stage_counts
    group by 1 having sum(orders) <> 0 order by 1
"""
STEPS = """
    select (e.updated_at at time zone 'utc')::date, e.from_stage::text, e.stage::text,
        floor(extract(epoch from e.updated_at - b.updated_at) / 3600)::integer, count(*)::bigint
    from public.order_delivery_status_events e
    join public.order_delivery_status_events b using (order_summary_id)
    join public.order_delivery_status s using (order_summary_id)
    where b.stage = e.from_stage and b.from_stage is distinct from b.stage and e.stage <> e.from_stage
        and not s.is_cancelled
    group by 1, 2, 3, 4 order by 1, 2, 3, 4
"""
KEPT_STEPS = """
    select day, from_stage::text, stage::text, hours, sum(orders)::bigint from mirror.delivery_durations
    group by 1, 2, 3, 4 having sum(orders) <> 0 order by 1, 2, 3, 4
"""
CANCEL = """
    update public.customer_orders_summary set cancelled_at = now()
    where id in (
        select id from public.customer_orders_summary where cancelled_at is null order by md5(id::text) limit 300
    )
"""
MOVE = """
    update public.order_delivery_status set stage = 'DELIVERED'
    where id in (select id from public.order_delivery_status where stage < 'DELIVERED' and not is_cancelled limit 300)
"""


@pytest.fixture(scope="module")
def large_shop(server: TestServer) -> Iterator[str]:
    """The name of a database with so many orders."""
    name = server.create()
    asyncio.run(make_large_shop(server, name, ORDERS))
    yield name
    server.drop(name)


@pytest.fixture
async def shop(server: TestServer, large_shop: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it as role `postgres`, in a transaction that is rolled back."""
    connection = await asyncpg.connect(server.owner(large_shop))
    await connection.execute("begin")
    yield connection
    await connection.close()


@pytest.mark.parametrize("report", REPORTS)
async def test_no_report_reads_a_big_table_from_end_to_end(server: TestServer, large_shop: str, report: str) -> None:
    assert await find_scans(server.superuser(large_shop), REPORTS[report]) == set()


async def test_what_statistics_read_is_equal_to_counting_anew(shop: asyncpg.Connection) -> None:
    assert await shop.fetch(KEPT_COUNTS) == await shop.fetch(COUNTED)
    assert await shop.fetch(KEPT_STEPS) == await shop.fetch(STEPS)


async def test_it_stays_so_when_hundreds_of_orders_move_and_end_at_once(shop: asyncpg.Connection) -> None:
    before = await shop.fetch(KEPT_STEPS)
    await shop.execute(MOVE)
    await shop.execute(CANCEL)
    assert await shop.fetch(KEPT_COUNTS) == await shop.fetch(COUNTED)
    assert await shop.fetch(KEPT_STEPS) != before


async def test_folding_leaves_every_sum_as_it_was_and_a_row_for_each(shop: asyncpg.Connection) -> None:
    await shop.execute(MOVE)
    await shop.execute(CANCEL)
    kept = await shop.fetch(KEPT_COUNTS), await shop.fetch(KEPT_STEPS)
    assert await shop.fetchval("select count(*) from mirror.delivery_durations") > len(kept[1])
    await shop.fetchval("select mirror.fold_delivery_rollups()")
    assert (await shop.fetch(KEPT_COUNTS), await shop.fetch(KEPT_STEPS)) == kept
    assert await shop.fetchval("select count(*) from mirror.delivery_durations") == len(kept[1])
    assert await shop.fetchval("select mirror.fold_delivery_rollups()") == 0
