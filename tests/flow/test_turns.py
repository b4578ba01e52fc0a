"""Daemons and admins change the same rows, each beginning with another table: they take turns, never in a circle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import msgspec
import pytest

from sync.columns import record_columns
from sync.engines.base import Context
from sync.engines.vendure.mapping import map_event
from tests.database.shop import Shop, open_shop
from tests.factory import Document, payload

UPSERT = "select mirror.upsert_orders((select id from mirror.integrations), $1)"
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = $1"


class Floor:
    """A shop with one batch of two orders, and a daemon whose slice takes long."""

    def __init__(self, shop: Shop, daemon: asyncpg.Connection) -> None:
        self.shop = shop
        self.daemon = daemon

    async def tell(self, *events: Document) -> None:
        """Let the daemon write orders, in its own transaction."""
        context = Context(phone_region="LK")
        records = [record for e in events for record in map_event(e["type"], payload(e), context)]
        await self.daemon.execute(UPSERT, msgspec.json.encode(record_columns(records)).decode())

    async def wait_for_one_to_wait(self) -> None:
        name = await self.shop.mirror.connection.fetchval("select current_database()")
        async with asyncio.timeout(30):
            # Postgres tells nobody who begins to wait.
            while not await self.shop.mirror.connection.fetchval(WAITING, name):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
async def floor(database: str, connection: asyncpg.Connection) -> AsyncIterator[Floor]:
    """Orders 1 and 2, in one batch."""
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(open_shop(database, connection))
        daemon = await asyncpg.connect(database)
        stack.push_async_callback(daemon.close)
        await shop.place("1", "2")
        yield Floor(shop, daemon)


async def test_an_admin_moves_the_batch_while_a_daemon_applies_a_slice(floor: Floor) -> None:
    (batch,) = await floor.shop.batches()
    async with floor.daemon.transaction():
        await floor.tell(floor.shop.told("1", state="Shipped"))
        moving = asyncio.create_task(floor.shop.move_batch(batch["id"], "arrived"))
        await floor.wait_for_one_to_wait()
        await floor.tell(floor.shop.told("2", state="Cancelled"))  # counts the batch that the admin has in hand
    await moving
    assert await floor.shop.stages("1", "2") == ["ARRIVED", "ORDER_CONFIRMED"]
    assert (await floor.shop.batch(batch["id"]))["order_count"] == 1


async def test_an_admin_edits_a_delivery_while_a_daemon_applies_its_order(floor: Floor) -> None:
    async with floor.daemon.transaction():
        await floor.tell(floor.shop.told("1", state="Shipped"))
        editing = asyncio.create_task(floor.shop.edit_delivery("1", stage="DISPATCHED"))
        await floor.wait_for_one_to_wait()
        await floor.tell(floor.shop.told("1", customFields={"deliveryStage": "SOURCING"}))
    await editing
    assert await floor.shop.stages("1") == ["DISPATCHED"]


async def test_a_daemon_begins_a_slice_while_an_admin_saves_several_cells(floor: Floor) -> None:
    admin = floor.shop.admin
    delivery, order = await floor.shop.delivery("1"), await floor.shop.order("2")
    async with admin.connection.transaction():
        await admin.edit("order_delivery_status", delivery["id"], stage="SOURCING")
        events = floor.shop.told("2", state="Shipped"), floor.shop.told("1", state="Cancelled")
        applying = asyncio.create_task(floor.tell(*events))
        await floor.wait_for_one_to_wait()
        await admin.edit("customer_orders_summary", order["id"], batch_id=None)
    await applying
    assert await floor.shop.stages("1", "2") == ["SOURCING", "ORDER_CONFIRMED"]
    assert (await floor.shop.delivery("1"))["is_cancelled"]


async def test_a_daemon_does_not_wait_for_another_that_has_other_customers(floor: Floor) -> None:
    of_eight, of_nine = {"customer": {"id": "8"}}, {"customer": {"id": "9"}}
    await floor.shop.mirror.take(floor.shop.told("3", **of_eight), floor.shop.told("4", **of_nine))
    async with floor.daemon.transaction():
        await floor.tell(floor.shop.told("3", state="Shipped", **of_eight))
        await floor.shop.place("4", state="Shipped", **of_nine)
        assert (await floor.shop.order("4"))["order_state"] == "Shipped"
    assert (await floor.shop.order("3"))["order_state"] == "Shipped"


async def test_two_daemons_bring_orders_of_a_customer_whom_nobody_knows(floor: Floor) -> None:
    of_eight = {"customer": {"id": "8"}}
    async with floor.daemon.transaction():
        await floor.tell(floor.shop.told("3", **of_eight))
        placing = asyncio.create_task(floor.shop.place("4", **of_eight))
        await floor.wait_for_one_to_wait()
    await placing
    customers = [(await floor.shop.order(order_id))["customer_id"] for order_id in ("3", "4")]
    assert customers == [(await floor.shop.mirror.customer("8"))["id"]] * 2
