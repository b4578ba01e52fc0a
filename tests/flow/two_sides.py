"""A shop and its mirror, and somebody at work on each side: what one changes, the other is to have in the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec

from sync.compare import Difference, Documents, compare
from sync.deliver import Deliver
from sync.engines.base import Client, Context, Event
from sync.outbox import Counts
from tests.database.shop import DELIVERY, ORDERS
from tests.database.studio import Studio, studio
from tests.engine import Shop, ShopClient
from tests.factory import order_document
from tests.mirror import Mirror

Values = tuple[str, str | None]
"""Stage and tracking number."""

ORDER = "(select id from public.customer_orders_summary where source_id = $1)"
HISTORY = f"""
    select e.from_stage::text, e.stage::text, e.tracking_number, e.updated_by
    from public.order_delivery_status_events e
    where e.order_summary_id = {ORDER} and e.source_id <> 'placed' order by e.updated_at, e.id
"""
COMMANDS = f"""
    select c.state::text, c.payload, c.reason from mirror.outbox c
    where c.order_summary_id = {ORDER} order by c.created_at, c.id
"""


class TwoSides:
    """Order 1 (and others that are placed) in the shop and in the mirror."""

    def __init__(self, mirror: Mirror, admin: Studio) -> None:
        self.mirror = mirror
        self.admin = admin
        self.shop = Shop()
        self.client = ShopClient(self.shop)

    async def place(self, *order_ids: str, **fields: Any) -> None:
        """Place orders in the shop, and let their hooks arrive."""
        for order_id in order_ids:
            self.catch_up()
            await self.tell(self.shop.put("order", order_document(order_id, customer=None, **fields)))

    async def tell(self, *hooks: Event) -> None:
        """Let hooks arrive."""
        await self.mirror.accept_read(hooks)
        await self.mirror.drain().run()

    def shop_sets(self, order_id: str, stage: str, tracking_number: str | None = None) -> Event:
        """Set an order's delivery in the shop; return the hook that says so."""
        self.catch_up()
        return self.shop.set_stage(order_id, stage, tracking_number)

    async def admin_sets(self, order_id: str, **cells: Any) -> None:
        """Edit cells of an order's delivery in Studio, in one save."""
        await self._wait_for_the_shops_clock()
        (row,) = await self.admin.run(f"select id from {DELIVERY} where order_summary_id = {ORDER}", order_id)
        await self.admin.edit(DELIVERY, row["id"], **cells)

    async def admin_sets_in_order(self, order_id: str, **cells: Any) -> None:
        """The same in the order's own row."""
        await self._wait_for_the_shops_clock()
        await self.admin.edit(ORDERS, (await self.mirror.order(order_id))["id"], **cells)

    async def deliver(self, client: Client | None = None, **options: Any) -> Counts:
        """Send what is due."""
        self.catch_up()
        clients: Mapping[str, Client] = {"vendure": client or self.client}
        return await Deliver(self.mirror.database, clients, **options).run()

    async def poll(self) -> None:
        """Let the shop tell all of its orders again, as reconcile has it do."""
        self.catch_up()
        await self.tell(*(self.shop.event("order", order_id) for order_id in self.shop.documents["order"]))

    async def let_time_pass(self) -> None:
        """Let leases and waits be over."""
        await self.admin.run("update mirror.outbox set available_at = now() where state = 'pending'")

    async def set_policy(self, policy: str) -> None:
        await self.admin.run("update mirror.integrations set conflict_policy = $1::mirror.conflict_policy", policy)

    async def here(self, order_id: str) -> Values:
        """Return what the mirror says, having seen that both of its tables say the same."""
        order = await self.mirror.order(order_id)
        (row,) = await self.admin.run(
            f"select stage::text, tracking_number from {DELIVERY} where order_summary_id = $1", order["id"]
        )
        assert tuple(row) == (order["delivery_stage"], order["tracking_number"])
        return row["stage"], row["tracking_number"]

    async def differences(self) -> list[Difference]:
        """Compare what the mirror has with the shop's documents, field by field."""
        orders = list(self.shop.documents["order"].values())
        documents = msgspec.convert({"customers": [], "orders": orders}, Documents)
        context = Context(phone_region="LK")
        return (await compare(self.mirror.database, self.mirror.integration, documents, context)).differences

    def there(self, order_id: str) -> Values:
        """Return what the shop says."""
        fields = self.shop.documents["order"][order_id].get("customFields") or {}
        return fields.get("deliveryStage") or "ORDER_CONFIRMED", fields.get("trackingNumber")

    async def history(self, order_id: str) -> list[tuple[Any, ...]]:
        """Return what happened after the order was placed, in time order."""
        return [tuple(row) for row in await self.admin.run(HISTORY, order_id)]

    async def commands(self, order_id: str) -> list[tuple[str, Values, str | None]]:
        """Return the state, the values and the reason of each of an order's commands, oldest first."""
        found = []
        for row in await self.admin.run(COMMANDS, order_id):
            payload = json.loads(row["payload"])
            found.append((row["state"], (payload["stage"], payload["tracking_number"]), row["reason"]))
        return found

    async def conflicts(self) -> list[asyncpg.Record]:
        """Return the conflicts that are open."""
        return await self.admin.run("select * from mirror.sync_conflicts where resolved_at is null")

    async def _wait_for_the_shops_clock(self) -> None:
        """Let what comes now be later than what the shop did last: its clock runs ahead by a millisecond or so."""
        await asyncio.sleep(max(0.0, (self.shop.now - datetime.now(UTC)).total_seconds()))

    def catch_up(self) -> None:
        """Let the shop's clock be right."""
        self.shop.now = max(self.shop.now, datetime.now(UTC))


@asynccontextmanager
async def open_two_sides(mirror: Mirror, database: str) -> AsyncIterator[TwoSides]:
    """Open a shop in memory beside a mirror, and Studio on its database."""
    async with studio(database) as admin:
        yield TwoSides(mirror, admin)
