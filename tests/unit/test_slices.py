"""A slice is parted into lanes that touch nothing in common, and says of each entity only the newest."""

from __future__ import annotations

import json
import random
from uuid import UUID

import pytest

from sync.engines.base import Context
from sync.engines.vendure.mapping import map_event
from sync.records import Customer, Deletion, Order, Record
from sync.slices import LANE_RECORDS, LANES, lanes, newest_records
from tests.factory import Document, customer_changed, customer_deleted, order_changed, order_deleted, payload

ENOUGH = LANES * LANE_RECORDS
INTEGRATION = UUID(int=1)


def records(event: Document) -> list[Record]:
    return map_event(event["type"], payload(event), Context(phone_region="LK"))


def parted(events: list[Document]) -> list[list[Document]]:
    return lanes(events, records)


def touched(event: Document) -> set[tuple[str, str | None]]:
    (record,) = records(event)
    if isinstance(record, Customer):
        return {("customer", record.source_id), ("e-mail", record.email)}
    if isinstance(record, Order):
        return {("order", record.source_id), ("customer", record.customer_source_id)}
    assert isinstance(record, Deletion)
    return {(record.entity, record.source_id)}


def any_event(choice: random.Random) -> Document:
    """Return an event of one of so many entities that some meet and most do not."""
    number, other = str(choice.randrange(4 * ENOUGH)), str(choice.randrange(4 * ENOUGH))
    return choice.choice(
        [
            customer_changed(number, 1, emailAddress=f"{other}@example.com"),
            order_changed(number, 1, customer={"id": other}),
            customer_deleted(number, 1),
        ]
    )


@pytest.mark.parametrize("seed", range(20))
def test_no_two_lanes_touch_the_same_customer_order_or_address(seed: int) -> None:
    slice_ = [any_event(random.Random(f"{seed} {n}")) for n in range(ENOUGH)]  # noqa: S311
    one, other = parted(slice_)
    assert sorted(map(id, one + other)) == sorted(map(id, slice_))
    assert not set().union(*map(touched, one)) & set().union(*map(touched, other))


def test_lanes_are_of_about_the_same_length_and_keep_the_order() -> None:
    slice_ = [order_changed(str(n), 1, customer={"id": str(n // 5)}) for n in range(5 * ENOUGH)]
    found = parted(slice_)
    assert len(found) == LANES
    assert max(map(len, found)) - min(map(len, found)) <= 5
    assert all(lane == sorted(lane, key=slice_.index) for lane in found)


def test_a_few_events_go_down_one_lane() -> None:
    slice_ = [customer_changed(str(n), 1) for n in range(ENOUGH - 1)]
    assert parted(slice_) == [slice_]
    assert parted([]) == []


def test_a_deleted_order_may_have_left_its_code_to_any_other() -> None:
    slice_ = [*(customer_changed(str(n), 1) for n in range(ENOUGH)), order_deleted("7", 1)]
    assert parted(slice_) == [slice_]


def test_only_the_newest_state_of_an_entity_is_sent() -> None:
    events = [order_changed("7", version, state=f"V{version}") for version in (1, 3, 2)]
    (sent,) = json.loads(newest_records((INTEGRATION, record) for event in events for record in records(event)))
    assert sent["orders"]["order_state"] == ["V3"]


def test_a_deletion_does_not_replace_a_state() -> None:
    events = [order_changed("7", 1), order_deleted("7", 2)]
    (sent,) = json.loads(newest_records((INTEGRATION, record) for event in events for record in records(event)))
    assert (sent["orders"]["source_id"], sent["deleted_orders"]["source_id"]) == (["7"], ["7"])
    assert isinstance(records(events[1])[0], Deletion)
