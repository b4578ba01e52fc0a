"""Figures for admins: customers' totals, batches, deliveries, and the orders that somebody should look at."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from tests import factory
from tests.database.shop import BATCHES, Shop, pre_order
from tests.factory import START, at, stage_change

ATTENTION = "select order_code, reason from public.orders_needing_attention order by order_code"
DAY = 24 * 3600


def payment(amount: int, method: str = "card", **fields: Any) -> list[dict[str, Any]]:
    """Return an order's payments: one, settled."""
    return [{**factory.payment("1"), "method": method, "amount": amount, **fields}]


def refunded(amount: int) -> list[dict[str, Any]]:
    return payment(100000, refunds=[{"total": amount, "state": "Settled"}])


async def totals(shop: Shop, customer: str = "1") -> tuple[Any, ...]:
    row = await shop.mirror.customer(customer)
    return row["total_orders"], row["total_spent"], json.loads(row["spent_by_currency"])


async def test_a_customers_totals_follow_every_change_of_their_orders(shop: Shop) -> None:
    await shop.place("1", "2", orderPlacedAt=at(-60))
    await shop.place("3", currencyCode="JPY", totalWithTax=3000, orderPlacedAt=at(-30))
    assert await totals(shop) == (3, Decimal(2000), {"LKR": 2000, "JPY": 3000})
    assert (await shop.mirror.customer("1"))["last_order_date"] == START - timedelta(seconds=30)
    await shop.place("1", payments=refunded(25000))
    await shop.cancel("3")
    assert await totals(shop) == (2, Decimal(1750), {"LKR": 1750})
    await shop.remove("1")
    assert await totals(shop) == (1, Decimal(1000), {"LKR": 1000})
    await shop.place("2", customer={"id": "9"})
    assert await totals(shop) == (0, Decimal(0), {})
    assert await totals(shop, "9") == (1, Decimal(1000), {"LKR": 1000})


async def test_a_customers_totals_can_be_counted_anew(shop: Shop) -> None:
    await shop.place("1")
    customer = (await shop.mirror.customer("1"))["id"]
    await shop.admin.edit("customers", customer, total_orders=7, total_spent=1)
    await shop.admin.run("select update_customer_statistics($1)", customer)
    assert await totals(shop) == (1, Decimal(1000), {"LKR": 1000})


async def test_a_batch_in_figures(shop: Shop) -> None:
    await shop.admin.insert(BATCHES, name="November", target_order_count=8)
    await shop.place("1", lines=[pre_order("a", quantity=3), pre_order("b")])
    await shop.place("2", payments=refunded(10000))
    await shop.place("3", payments=payment(50000))
    await shop.place("4", currencyCode="USD")
    await shop.cancel("4")
    await shop.edit_delivery("1", stage="DELIVERED")
    (batch,) = await shop.batches()
    (found,) = await shop.admin.run("select * from get_batch_statistics($1)", batch["id"])
    figures = dict(found)
    stages = {"ORDER_CONFIRMED": 2, "SOURCING": 0, "ARRIVED": 0, "DISPATCHED": 0, "DELIVERED": 1}
    assert json.loads(figures.pop("revenue")) == {"LKR": 2900}
    assert json.loads(figures.pop("orders_by_stage")) == stages
    assert figures == {
        "batch_number": batch["batch_number"], "status": "collecting", "total_orders": 3, "total_items": 6,
        "completion_percentage": Decimal("33.3"), "target_order_count": 8, "progress_percentage": Decimal("37.5"),
        "age_days": Decimal("0.0"), "unpaid_orders": 1, "cancelled_orders": 1,
    }  # fmt: skip


async def test_an_empty_batch_without_a_target_has_figures_too(shop: Shop) -> None:
    batch = await shop.admin.insert(BATCHES, name="empty")
    (found,) = await shop.admin.run("select * from get_batch_statistics($1)", batch["id"])
    assert (found["total_orders"], found["total_items"], found["revenue"]) == (0, 0, "{}")
    assert (found["completion_percentage"], found["progress_percentage"]) == (0, None)


async def deliver(shop: Shop, order_id: str, *, hours: int) -> None:
    """Let the engine tell of an order that was dispatched 10 hours after its placing, and delivered later."""
    placed = (START - timedelta(days=10)).isoformat()
    dispatched = -10 * DAY + 10 * 3600
    changes = [
        stage_change("a", "DISPATCHED", dispatched),
        stage_change("b", "DELIVERED", dispatched + hours * 3600),
    ]
    await shop.place(
        order_id, orderPlacedAt=placed, customFields={"deliveryStage": "DELIVERED"}, deliveryStageChanges=changes
    )


async def delivery_figures(shop: Shop) -> dict[str, Any]:
    ((found,),) = await shop.admin.run(
        "select to_jsonb(s) from get_delivery_statistics($1, $2) as s", START - timedelta(days=30), START
    )
    return dict(json.loads(found))


async def test_deliveries_in_figures(shop: Shop) -> None:
    for order, hours in enumerate((1, 2, 3, 4, 5, 6, 7, 8, 9, 100)):
        await deliver(shop, str(order), hours=hours)
    await shop.place("cancelled", customFields={"deliveryStage": "DELIVERED"}, state="Cancelled")
    await shop.place("waiting")
    figures = await delivery_figures(shop)
    assert figures["orders_by_stage"] == {
        "ORDER_CONFIRMED": 1, "SOURCING": 0, "ARRIVED": 0, "DISPATCHED": 0, "DELIVERED": 10,
    }  # fmt: skip
    assert figures["median_hours"] == {"ORDER_CONFIRMED → DISPATCHED": 10, "DISPATCHED → DELIVERED": 5}
    assert figures["p90_hours"] == {"ORDER_CONFIRMED → DISPATCHED": 10, "DISPATCHED → DELIVERED": 9}
    assert figures["deliveries_per_day"] == {"2026-11-10": 3, "2026-11-11": 6, "2026-11-15": 1}


async def test_stuck_is_what_stays_longer_than_nine_of_ten(shop: Shop) -> None:
    now = datetime.now(UTC)
    for order, days in (("1", 13), ("2", 15)):
        await shop.place(order, orderPlacedAt=(now - timedelta(days=days)).isoformat())
    assert await reasons(shop) == {"CODE2": "stuck"}
    await shop.admin.run(
        "insert into mirror.delivery_durations (store_id, day, from_stage, stage, hours, orders) "
        "select mirror.default_store_id(), current_date - 1, 'ORDER_CONFIRMED', 'SOURCING', 24 * 10, 9"
    )
    await shop.admin.run("select mirror.refresh_delivery_norms()")
    assert await reasons(shop) == {"CODE1": "stuck", "CODE2": "stuck"}


async def test_what_the_shop_delivered_before_the_mirror_came_is_not_stuck(shop: Shop) -> None:
    placed = (datetime.now(UTC) - timedelta(days=400)).isoformat()
    await shop.place("1", orderPlacedAt=placed, state="Delivered")
    await shop.place("2", orderPlacedAt=placed, state="Shipped")
    assert await reasons(shop) == {"CODE2": "stuck"}


async def test_a_store_that_says_later_what_its_currency_is_has_its_customers_totals(shop: Shop) -> None:
    await shop.place("1", currencyCode="EUR")
    await shop.place("2")
    await shop.place("3", currencyCode="EUR")
    assert await total_spent(shop) == 1000
    await shop.admin.run("update public.stores set currency = 'EUR'")
    assert await total_spent(shop) == 2000
    await shop.place("4", currencyCode="EUR")
    assert await total_spent(shop) == 3000


async def total_spent(shop: Shop) -> Decimal:
    (customer,) = await shop.admin.run("select total_spent from public.customers")
    return Decimal(customer["total_spent"])


async def reasons(shop: Shop) -> dict[str, str]:
    """Return the reason of each order that needs attention, having seen that none stands there twice."""
    rows: list[asyncpg.Record] = await shop.admin.run(ATTENTION)
    found = {row["order_code"]: row["reason"] for row in rows}
    assert len(found) == len(rows)
    return found


async def test_attention_has_one_reason_an_order(shop: Shop) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=400)).isoformat()
    await shop.place("1", "2", "3", "4", orderPlacedAt=long_ago, payments=[])
    await shop.place("5", "6", orderPlacedAt=long_ago)
    await shop.place("7", payments=[])
    await shop.place("8", payments=payment(100000, "cash-on-delivery", state="Authorized"))
    await shop.cancel("1")
    for order in ("2", "8"):
        await shop.edit_delivery(order, stage="SOURCING")
    await shop.edit_delivery("3", stage="DISPATCHED")
    await shop.edit_delivery("5", stage="DISPATCHED")
    expected = {
        "CODE1": "cancelled in batch", "CODE2": "unpaid", "CODE3": "unpaid", "CODE4": "stuck",
        "CODE5": "no tracking number", "CODE6": "stuck",
    }  # fmt: skip
    assert await reasons(shop) == expected


async def test_the_shops_earlier_tracking_has_its_own_words(shop: Shop) -> None:
    await shop.place("1", payments=[])
    await shop.place("2", "3", "4", "5")
    for order, stage in (("3", "ARRIVED"), ("4", "DISPATCHED"), ("5", "DELIVERED")):
        await shop.edit_delivery(order, stage=stage)
    assert await shop.mirror.column("select status from public.order_tracking order by order_code") == [
        "pending", "confirmed", "processing", "shipped", "delivered",
    ]  # fmt: skip
