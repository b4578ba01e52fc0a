"""Orders as they are told, one for each thing that can be said of an order, on a day that never changes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import msgspec

from api.stores import Store
from api.tracking.told import BatchProgress, Expected, Step, TrackedItem, TrackedOrder, give_version
from sync.records import DELIVERY_STAGES

NOW = datetime(2026, 12, 5, 4, 30, tzinfo=UTC)
CODE, PHONE = "K3QTXZ5VN8PL2M4W", "077 123 4567"

STORE = Store(
    id=UUID(int=1),
    slug="default",
    name="Signature Kits",
    phone_region="LK",
    locale="en",
    storefront_url="https://shop.example",
    code_seconds=300,
    currency="LKR",
    timezone="Asia/Colombo",
    accent_color="#2457d6",
    carrier_links={},
    allowed_origins=[],
)

TIMES = (
    datetime(2026, 11, 20, 9, 58, tzinfo=UTC),
    datetime(2026, 11, 22, 4, 10, tzinfo=UTC),
    datetime(2026, 12, 2, 11, 25, tzinfo=UTC),
    datetime(2026, 12, 4, 6, 2, tzinfo=UTC),
    datetime(2026, 12, 5, 3, 47, tzinfo=UTC),
)

ITEMS = [
    TrackedItem("Home shirt 2026/27", "Size M", 1, "PERERA", "7"),
    TrackedItem("Away shirt 2026/27", "Size L, long sleeves", 2, None, None),
    TrackedItem("Football scarf", None, 1, None, None),
]


def told(reached: int, **changes: Any) -> TrackedOrder:
    """Return an order that has reached so many stages."""
    order = TrackedOrder(
        order_code=CODE,
        placed_at=TIMES[0],
        cancelled_at=None,
        stage=DELIVERY_STAGES[reached - 1],
        timeline=[Step(stage, TIMES[at] if at < reached else None) for at, stage in enumerate(DELIVERY_STAGES)],
        tracking_number="SLP-200011" if reached >= 4 else None,
        carrier="Trans Express" if reached >= 4 else None,
        carrier_url="https://carrier.example/SLP-200011" if reached >= 4 else None,
        currency="LKR",
        total_with_tax="24850.00",
        items=ITEMS,
        eta=None,
        is_delayed=False,
        expected=None,
        batch=None,
    )
    changed = msgspec.structs.replace(order, **changes)
    give_version(changed, UUID(int=2))
    return changed


def expected(at: int, first: int, last: int) -> Expected:
    earliest, latest = (datetime(2026, 12, day, 6, 0, tzinfo=UTC) for day in (first, last))
    return Expected(DELIVERY_STAGES[at], earliest, latest, based_on=48)


BATCH = BatchProgress("20261120-0001", "collecting", 34, 50, date(2026, 12, 20))

ORDERS = {
    "confirmed": told(1, expected=expected(1, 8, 12), batch=BATCH),
    "sourcing": told(
        2, expected=expected(2, 9, 16), batch=BatchProgress("20261120-0001", "inTransit", 50, 50, date(2026, 12, 12))
    ),
    "arrived": told(3, expected=expected(3, 6, 8)),
    "dispatched": told(4, expected=expected(4, 6, 7)),
    "delivered": told(5),
    "delayed": told(2, is_delayed=True),
    "cancelled": told(2, cancelled_at=datetime(2026, 11, 25, 5, 0, tzinfo=UTC)),
    "expected": told(4, eta=date(2026, 12, 8)),
}

BY_LINK = told(
    4,
    total_with_tax=None,
    items=[msgspec.structs.replace(item, print_name=None, print_number=None) for item in ITEMS],
    expected=expected(4, 6, 7),
)
"""What a link shows of an order."""
