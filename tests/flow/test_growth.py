"""The planner learns of tables as they grow: plans for empty ones would read all of a store for each row."""

from __future__ import annotations

import asyncpg
import pytest

from sync.database import connect
from sync.errors import Reject
from sync.growth import Growth
from sync.settings import Address
from tests.factory import order_changed
from tests.flow.runs import fill, open_shop
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

KNOWN = "select reltuples::integer from pg_class where oid = 'public.customer_orders_summary'::regclass"
LOOK_UP = """
    explain select from public.customer_orders_summary
    where store_id = (select id from public.stores limit 1) and source = 'vendure' and source_id = '7'
"""


@pytest.fixture(autouse=True)
async def no_autovacuum(connection: asyncpg.Connection) -> None:
    await connection.execute("alter table public.customer_orders_summary set (autovacuum_enabled = false)")


async def test_a_drain_tells_the_planner_of_what_it_wrote(mirror: Mirror) -> None:
    drain = mirror.drain(slice_size=249)
    await mirror.accept(*(order_changed(str(number), 1) for number in range(249)))
    await drain.run()
    assert await mirror.column(KNOWN) == [-1]
    await mirror.accept(*(order_changed(str(number), 1) for number in range(249, 300)))
    await drain.run()
    assert await mirror.column(KNOWN) == [300]


async def test_a_backfill_does(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.passes.FIRST_SLICE", 100)
    await fill(mirror, open_shop(customers=1, orders=600))
    assert (await mirror.column(KNOWN))[0] >= 300


@both_doors
async def test_the_database_looks_only_at_what_has_grown(
    address: Address, mirror: Mirror, connection: asyncpg.Connection
) -> None:
    for first in range(0, 400, 100):
        await mirror.take(*(order_changed(str(number), 1) for number in range(first, first + 100)))
    async with connect(address) as database:
        assert "public.customer_orders_summary" in await database.call("analyze_grown")
        assert await database.call("analyze_grown") == []
    plan = "\n".join(await mirror.column(LOOK_UP))
    assert "customer_orders_summary_store_id_source_source_id_key" in plan


async def test_a_refusal_stops_nothing(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute("drop function mirror.analyze_grown()")
    async with connect(database) as opened:
        with pytest.raises(Reject):
            await opened.call("analyze_grown")
        await Growth(opened).note(1000)
