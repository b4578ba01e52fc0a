"""The counters and statistics of the mirror, counted anew from its rows in the most naive way: what they must equal.

Nothing here is fast, and nothing here uses the mirror's own functions, but to ask for what is compared.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

STAGES = ("ORDER_CONFIRMED", "SOURCING", "ARRIVED", "DISPATCHED", "DELIVERED")
TABLES = {
    "orders": "customer_orders_summary",
    "items": "customer_order_items",
    "customers": "customers",
    "batches": "import_batches",
    "assignments": "order_batch_assignments",
    "deliveries": "order_delivery_status",
    "events": "order_delivery_status_events",
}
STUCK = timedelta(days=14)

Row = dict[str, Any]


class Recount:
    """All rows of a mirror, and what follows from them."""

    def __init__(self, connection: asyncpg.Connection, tables: dict[str, list[Row]]) -> None:
        self.connection = connection
        self.tables = tables
        self.orders = {row["id"]: row for row in tables["orders"]}
        self.deliveries = {row["order_summary_id"]: row for row in tables["deliveries"]}

    @classmethod
    async def of(cls, connection: asyncpg.Connection) -> Recount:
        """Read everything."""
        tables = {
            name: [dict(row) for row in await connection.fetch(f"select * from public.{table} order by id")]
            for name, table in TABLES.items()
        }
        return cls(connection, tables)

    async def check(self) -> None:
        """Compare everything that the mirror keeps with what its rows say."""
        self.check_orders()
        self.check_customers()
        self.check_batches()
        self.check_assignments()
        self.check_times()
        await self.check_rollups()
        await self.check_delivery_statistics()
        for batch in self.tables["batches"]:
            await self.check_batch_statistics(batch)

    def check_orders(self) -> None:
        for order in self.orders.values():
            delivery = self.deliveries.get(order["id"])
            assert (delivery is None) == (order["order_code"] is None)
            if delivery:
                told = order["delivery_stage"], order["tracking_number"], not counts(order)
                assert told == (delivery["stage"], delivery["tracking_number"], delivery["is_cancelled"])

    def check_customers(self) -> None:
        for customer in self.tables["customers"]:
            orders = [o for o in self.orders.values() if o["customer_id"] == customer["id"] and counts(o)]
            spent = spent_by_currency(orders)
            kept = json.loads(customer["spent_by_currency"], parse_float=Decimal)
            assert customer["total_orders"] == len(orders)
            assert {currency: Decimal(amount) for currency, amount in kept.items()} == spent
            assert customer["total_spent"] == spent.get("LKR", 0)
            assert customer["last_order_date"] == max((o["order_date"] for o in orders), default=None)

    def check_batches(self) -> None:
        for batch in self.tables["batches"]:
            orders = len([o for o in self.members(batch) if counts(o)])
            target = batch["target_order_count"]
            assert batch["order_count"] == orders
            assert batch["is_ready"] == (batch["status"] == "collecting" and target is not None and orders >= target)

    def check_assignments(self) -> None:
        of_order: dict[Any, list[Row]] = defaultdict(list)
        completed = {b["id"] for b in self.tables["batches"] if b["status"] == "completed"}
        for row in self.tables["assignments"]:
            assert row["is_open"] == (row["batch_id"] not in completed)
            of_order[row["order_summary_id"]].append(row)
        for order in self.orders.values():
            rows = sorted(of_order[order["id"]], key=lambda row: (row["is_open"], row["id"]))
            assert sum(row["is_open"] for row in rows) <= 1
            assert order["batch_id"] == (rows[-1]["batch_id"] if rows else None)

    def check_times(self) -> None:
        for delivery in self.deliveries.values():
            reached = self.reached(delivery)
            names = ("confirmed_at", "sourcing_at", "arrived_at", "dispatched_at", "delivered_at")
            kept = [delivery[name] for name in names]
            assert kept == [reached.get(stage) for stage in STAGES]
            assert delivery["stage_since"] == reached[delivery["stage"]]

    async def check_rollups(self) -> None:
        kept = await self.connection.fetch(
            "select stage::text, sum(orders)::int as orders from mirror.delivery_stage_counts group by 1"
        )
        assert Counter({row["stage"]: row["orders"] for row in kept}) == self.stage_counts()
        kept = await self.connection.fetch(
            "select day, from_stage::text, stage::text, hours, sum(orders)::int as orders "
            "from mirror.delivery_durations group by 1, 2, 3, 4 having sum(orders) <> 0"
        )
        assert {tuple(row)[:4]: row["orders"] for row in kept} == Counter(self.steps())

    async def check_delivery_statistics(self) -> None:
        (row,) = await self.connection.fetch("select * from get_delivery_statistics('2000-01-01', '2200-01-01')")
        hours, per_day = defaultdict(list), Counter[str]()
        for day, before, stage, lasted in self.steps():
            hours[f"{before} → {stage}"].append(lasted)
            per_day[day.isoformat()] += stage == "DELIVERED"
        counted = self.stage_counts()
        assert json.loads(row["orders_by_stage"]) == {stage: counted[stage] for stage in STAGES}
        assert json.loads(row["median_hours"]) == {step: percentile(h, 0.5) for step, h in hours.items()}
        assert json.loads(row["p90_hours"]) == {step: percentile(h, 0.9) for step, h in hours.items()}
        assert json.loads(row["deliveries_per_day"]) == dict(+per_day)
        assert row["stuck_orders"] == sum(map(is_stuck, self.deliveries.values()))

    async def check_batch_statistics(self, batch: Row) -> None:
        (row,) = await self.connection.fetch("select * from get_batch_statistics($1)", batch["id"])
        members = self.members(batch)
        orders = [o for o in members if counts(o)]
        ids = {o["id"] for o in orders}
        stages = Counter(o["delivery_stage"] for o in orders)
        revenue = json.loads(row["revenue"], parse_float=Decimal)
        assert row["total_orders"] == len(orders)
        assert row["total_items"] == sum(i["quantity"] for i in self.tables["items"] if i["order_summary_id"] in ids)
        assert {currency: Decimal(amount) for currency, amount in revenue.items()} == spent_by_currency(orders)
        assert json.loads(row["orders_by_stage"]) == {stage: stages[stage] for stage in STAGES}
        assert row["completion_percentage"] == percent(stages["DELIVERED"], len(orders) or 1)
        target = batch["target_order_count"]
        assert row["progress_percentage"] == (target and percent(len(orders), target))
        assert row["unpaid_orders"] == sum(o["total_paid"] < o["total_with_tax"] for o in orders)
        assert row["cancelled_orders"] == len(members) - len(orders)

    def members(self, batch: Row) -> list[Row]:
        rows = self.tables["assignments"]
        return [self.orders[row["order_summary_id"]] for row in rows if row["batch_id"] == batch["id"]]

    def reached(self, delivery: Row) -> dict[str, datetime]:
        """Return when a delivery reached its stages: what it went back from is not reached, but for where it is."""
        order, now = self.orders[delivery["order_summary_id"]], STAGES.index(delivery["stage"])
        moves = [
            (STAGES.index(e["stage"]), e["updated_at"])
            for e in self.tables["events"]
            if e["order_summary_id"] == order["id"] and e["from_stage"] not in {None, e["stage"]}
        ]
        reached = {"ORDER_CONFIRMED": order["order_date"]}
        for stage in range(1, now + 1):
            went_back = [at for lower, at in moves if lower < stage < now]
            times = [at for other, at in moves if other == stage and all(at >= back for back in went_back)]
            if times:
                reached[STAGES[stage]] = max(times)
        return reached

    def stage_counts(self) -> Counter[str]:
        return Counter(d["stage"] for d in self.deliveries.values() if not d["is_cancelled"])

    def steps(self) -> list[tuple[Any, str, str, int]]:
        """Return each delivery's steps: the day (UTC), from where, to where, and the whole hours that it took."""
        return [step for d in self.deliveries.values() if not d["is_cancelled"] for step in self._steps_of(d)]

    def _steps_of(self, delivery: Row) -> Iterable[tuple[Any, str, str, int]]:
        reached = list(self.reached(delivery).items())
        for (before, left), (stage, at) in itertools.pairwise(reached):
            hours = max(0, math.floor((at - left).total_seconds() / 3600))
            yield at.astimezone(UTC).date(), before, stage, hours


def counts(order: Row) -> bool:
    """Tell whether an order is placed, and neither cancelled nor deleted."""
    return order["order_code"] is not None and order["cancelled_at"] is None and order["deleted_at"] is None


def spent_by_currency(orders: Iterable[Row]) -> dict[str, Decimal]:
    spent: dict[str, Decimal] = defaultdict(Decimal)
    for order in orders:
        given_back = order["total_refunded"] + order["refunded_outside"]
        overpaid = max((order["total_paid"] or 0) - order["total_with_tax"], 0)  # lines were cancelled since
        spent[order["currency"]] += order["total_with_tax"] - max(given_back - overpaid, 0)
    return dict(spent)


def percent(part: int, whole: int) -> Decimal:
    return (Decimal(100) * part / whole).quantize(Decimal("0.1"), rounding="ROUND_HALF_UP")


def percentile(values: list[int], fraction: float) -> int:
    """Return the smallest value that at least this fraction does not exceed."""
    return sorted(values)[math.ceil(fraction * len(values)) - 1]


def is_stuck(delivery: Row) -> bool:
    waits = delivery["stage"] != "DELIVERED" and not delivery["is_cancelled"]
    return waits and bool(delivery["stage_since"] < datetime.now(UTC) - STUCK)
