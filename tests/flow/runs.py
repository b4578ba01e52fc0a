"""Backfills and reconciles of a shop in memory, for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from sync.answers import Source
from sync.backfill import Backfilled, backfill
from sync.engines.base import Client, Event, Sweep
from sync.reconcile import Reconciled, reconcile
from sync.records import Entity
from sync.sources import find_source
from tests.engine import Shop, ShopClient
from tests.factory import customer_document, order_document
from tests.mirror import Mirror

TABLES: dict[Entity, str] = {"customer": "customers", "order": "customer_orders_summary"}
LIVE = "select source_id from public.{} where deleted_at is null and source_version > '-infinity' order by 1"

Happening = Callable[[str, int], Awaitable[None]]
"""What happens after each call of a client: its name, and the how manieth of the name it was."""


class EventfulClient(ShopClient):
    """A client of a shop in which something happens between what is asked."""

    def __init__(self, shop: Shop, happening: Happening) -> None:
        super().__init__(shop)
        self.happening = happening

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        swept = await super().sweep(entity, position=position, since=since, limit=limit)
        await self.happening("sweep", self.shop.asked.count("sweep"))
        return swept

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        fetched = await super().fetch(entity, source_ids)
        await self.happening("fetch", self.shop.asked.count("fetch"))
        return fetched


def open_shop(*, customers: int = 3, orders: int = 5) -> Shop:
    """Return a shop with customers 1…, who take turns in placing orders 1…."""
    shop = Shop()
    for number in range(1, customers + 1):
        shop.put("customer", customer_document(str(number)))
    for number in range(1, orders + 1):
        shop.put("order", order_document(str(number), customer={"id": str((number - 1) % customers + 1)}))
    return shop


async def source(mirror: Mirror, shop: Shop, client: Client | None = None) -> Source:
    return await find_source(mirror.database, "vendure", client or ShopClient(shop))


async def fill(mirror: Mirror, shop: Shop, client: Client | None = None, **how: Any) -> Backfilled:
    """Run a backfill."""
    return await backfill(mirror.database, await source(mirror, shop, client), **how)


async def heal(mirror: Mirror, shop: Shop, client: Client | None = None, **how: Any) -> Reconciled:
    """Run a reconcile that heals."""
    return await reconcile(mirror.database, await source(mirror, shop, client), fix=True, **{"grace": 0, **how})


async def look(mirror: Mirror, shop: Shop, client: Client | None = None, **how: Any) -> Reconciled:
    """Run a reconcile that only looks."""
    return await reconcile(mirror.database, await source(mirror, shop, client), fix=False, **{"grace": 0, **how})


async def hook(mirror: Mirror, *events: Event) -> None:
    """Let hooks arrive, and apply them."""
    await mirror.accept_read(events)
    await mirror.drain().run()


async def live(mirror: Mirror, entity: Entity) -> list[str]:
    """Return the ids of what the mirror has and holds for living."""
    return await mirror.column(LIVE.format(TABLES[entity]))


async def assert_equal(mirror: Mirror, shop: Shop) -> None:
    """Expect the mirror to have what the shop has, in the same state, and no more."""
    for entity in TABLES:
        assert await live(mirror, entity) == sorted(shop.documents[entity])
    swept = await look(mirror, shop)
    assert (swept.ending.state, swept.found, swept.differing) == ("complete", {}, {})
