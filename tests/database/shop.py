"""A pre-order shop at work: its orders come the way that hooks take, and its admin edits them in Studio."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from sync.database import connect
from tests.database.studio import Studio, studio
from tests.factory import Document, line, order_changed, order_deleted
from tests.mirror import Mirror

ORDERS = "customer_orders_summary"
DELIVERY = "order_delivery_status"
BATCHES = "import_batches"
ASSIGNMENTS = "order_batch_assignments"

HISTORY = """
    select e.from_stage::text, e.stage::text, e.tracking_number, e.note, e.updated_by, e.actor
    from public.order_delivery_status_events e join public.customer_orders_summary o on o.id = e.order_summary_id
    where o.source_id = $1 and e.source_id <> 'placed' order by e.ctid
"""


class Shop:
    """The engine's side and the admin's side of one database."""

    def __init__(self, mirror: Mirror, admin: Studio) -> None:
        self.mirror = mirror
        self.admin = admin
        self._reads = itertools.count(1)

    async def place(self, *order_ids: str, **fields: Any) -> None:
        """Let the engine tell these orders anew, in one slice: pre-orders unless `lines` says otherwise."""
        await self.mirror.take(*(self.told(order_id, **fields) for order_id in order_ids))

    def told(self, order_id: str, **fields: Any) -> Document:
        """Return an event with an order's state, newer than any before."""
        return order_changed(order_id, next(self._reads), **{"lines": [pre_order(f"{order_id}-1")], **fields})

    async def cancel(self, *order_ids: str) -> None:
        await self.place(*order_ids, state="Cancelled")

    async def remove(self, order_id: str) -> None:
        await self.mirror.take(order_deleted(order_id, next(self._reads)))

    async def order(self, order_id: str) -> asyncpg.Record:
        return await self.mirror.order(order_id)

    async def delivery(self, order_id: str) -> asyncpg.Record:
        query = "select * from public.order_delivery_status where order_code = $1"
        (row,) = await self.admin.run(query, f"CODE{order_id}")
        return row

    async def stages(self, *order_ids: str) -> list[str]:
        """Return the orders' stages, having seen that both tables say the same."""
        stages = []
        for order_id in order_ids:
            order, delivery = await self.order(order_id), await self.delivery(order_id)
            assert (order["delivery_stage"], order["tracking_number"]) == (
                delivery["stage"], delivery["tracking_number"],
            )  # fmt: skip
            stages.append(delivery["stage"])
        return stages

    async def history(self, order_id: str) -> list[tuple[Any, ...]]:
        """Return what happened to a delivery after its order was placed, as it was written down."""
        return [tuple(row) for row in await self.admin.run(HISTORY, order_id)]

    async def edit_delivery(self, order_id: str, **cells: Any) -> None:
        await self.admin.edit(DELIVERY, (await self.delivery(order_id))["id"], **cells)

    async def edit_order(self, order_id: str, **cells: Any) -> None:
        await self.admin.edit(ORDERS, (await self.order(order_id))["id"], **cells)

    async def edit_store(self, **cells: Any) -> None:
        ((store,),) = await self.admin.run("select mirror.default_store_id()")
        await self.admin.edit("stores", store, **cells)

    async def batches(self) -> list[asyncpg.Record]:
        """Return all batches, oldest first."""
        return await self.admin.run("select * from public.import_batches order by created_at, batch_number")

    async def batch(self, batch_id: UUID) -> asyncpg.Record:
        (row,) = await self.admin.run("select * from public.import_batches where id = $1", batch_id)
        return row

    async def orders_in(self, batch_id: UUID) -> list[str]:
        """Return which orders are in a batch, having seen that both tables say the same."""
        by_order = await self.mirror.column(
            "select source_id from public.customer_orders_summary where batch_id = $1 order by 1", batch_id
        )
        by_assignment = await self.mirror.column(
            "select o.source_id from public.order_batch_assignments a "
            "join public.customer_orders_summary o on o.id = a.order_summary_id where a.batch_id = $1 order by 1",
            batch_id,
        )
        assert by_order == by_assignment
        return by_assignment

    async def assignment(self, order_id: str) -> asyncpg.Record:
        """Return the row that says in which batch an order is, or was last."""
        rows = await self.admin.run(
            "select a.* from public.order_batch_assignments a join public.customer_orders_summary o "
            "on o.id = a.order_summary_id where o.source_id = $1 order by a.id desc",
            order_id,
        )
        return rows[0]

    async def move_batch(self, batch_id: UUID, *statuses: str) -> None:
        for status in statuses:
            await self.admin.edit(BATCHES, batch_id, status=status)


@asynccontextmanager
async def open_shop(dsn: str, connection: asyncpg.Connection) -> AsyncIterator[Shop]:
    """Open a shop over a database."""
    async with connect(dsn) as door, studio(dsn) as admin:
        yield Shop(await Mirror.over(door, connection), admin)


def pre_order(line_id: str, **fields: Any) -> Document:
    """Return an order's line that is bought from the supplier only now."""
    return line(line_id, **{"customFields": {"preOrder": True}, **fields})
