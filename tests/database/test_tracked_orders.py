"""`mirror.track_orders`: where orders are, what may be expected, and to whom how much of it is told."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.database.shop import BATCHES, Shop, pre_order
from tests.factory import customer_changed, line, stage_change

HOUR = timedelta(hours=1)
PHONE = "94771234567"


async def ask(shop: Shop, *codes: str, proof: str = "link", phone: str = "", store: str = "default") -> list[Any]:
    """Return what is told of each order; None where nothing is."""
    rows = await shop.mirror.connection.fetch(
        "select question, told from mirror.track_orders($1, $2, $3, $4)",
        [store] * len(codes), list(codes), [proof] * len(codes), [phone] * len(codes),
    )  # fmt: skip
    told = {row["question"]: json.loads(row["told"]) for row in rows}
    return [told.get(number) for number in range(1, len(codes) + 1)]


async def told(shop: Shop, code: str = "CODE1", **how: Any) -> Any:
    (found,) = await ask(shop, code, **how)
    return found


async def place(shop: Shop, *order_ids: str, **fields: Any) -> None:
    await shop.place(
        *order_ids, **{"shippingAddress": {"streetLine1": "4/1 Temple Lane", "phoneNumber": PHONE}, **fields}
    )


async def test_many_are_asked_for_at_once_and_each_answer_has_its_question(shop: Shop) -> None:
    await place(shop, "1", "2", "3")
    found = await ask(shop, "CODE3", "nothing", "CODE1", "CODE3", proof="phone", phone=PHONE)
    assert [order and order["order_code"] for order in found] == ["CODE3", None, "CODE1", "CODE3"]


async def test_only_what_proves_something_opens_an_order(shop: Shop) -> None:
    await place(shop, "1")
    assert await told(shop, proof="phone", phone=PHONE)
    assert await told(shop, proof="link")
    for proof, phone in [("phone", "94770000000"), ("phone", ""), ("none", PHONE), ("", PHONE), ("LINK", "")]:
        assert await told(shop, proof=proof, phone=phone) is None
    assert await told(shop, proof="link", store="elsewhere") is None
    await shop.edit_store(is_active=False)
    assert await told(shop, proof="link") is None
    await shop.admin.run("update public.stores set is_active = true")
    await shop.remove("1")
    assert await told(shop, proof="link") is None


async def test_by_whatever_proof_the_same_is_known(shop: Shop) -> None:
    printed = pre_order("1-1", customFields={"patchEnabled": True, "printName": "NIMAL", "printNumber": "7"})
    await place(shop, "1", lines=[printed])
    seen = await told(shop, proof="phone", phone=PHONE)
    assert (seen["items"][0]["print_name"], seen["items"][0]["print_number"]) == ("NIMAL", "7")
    assert await told(shop, proof="link") == seen


async def test_carrier_and_number_are_told_from_dispatch_on(shop: Shop) -> None:
    await place(shop, "1")
    await shop.edit_delivery("1", stage="ARRIVED", tracking_number="T1", carrier="Domex")
    assert [(await told(shop))[name] for name in ("tracking_number", "carrier")] == [None, None]
    await shop.edit_delivery("1", stage="DISPATCHED")
    assert [(await told(shop))[name] for name in ("tracking_number", "carrier")] == ["T1", "Domex"]


async def test_the_timeline_follows_an_order_that_goes_back(shop: Shop) -> None:
    await place(shop, "1")
    await shop.edit_delivery("1", stage="ARRIVED")
    reached = [step["reached_at"] for step in (await told(shop))["timeline"]]
    assert [at is not None for at in reached] == [True, False, True, False, False]
    await shop.admin.run("select correct_order_delivery_status('CODE1', 'SOURCING', 'oops', 'Amara')")
    steps = (await told(shop))["timeline"]
    assert [step["reached_at"] is not None for step in steps] == [True, True, False, False, False]
    assert [step["stage"] for step in steps] == ["ORDER_CONFIRMED", "SOURCING", "ARRIVED", "DISPATCHED", "DELIVERED"]


async def deliver(shop: Shop, *, hours: int, count: int = 1, to: str = "SOURCING") -> None:
    """Let orders be told that went from ORDER_CONFIRMED to a stage in so many hours, a day or two ago."""
    placed = datetime.now(UTC) - timedelta(days=2, hours=hours)
    for number in range(count):
        order_id = f"past-{to}-{hours}-{number}"
        change = stage_change("a", to, 0, changedAt=(placed + hours * HOUR).isoformat())
        await place(
            shop, order_id, lines=[line(f"{order_id}-1")], orderPlacedAt=placed.isoformat(),
            customFields={"deliveryStage": to}, deliveryStageChanges=[change],
        )  # fmt: skip


async def learn(shop: Shop) -> None:
    await shop.admin.run("select mirror.refresh_expected_steps()")


def hours_between(start: str, *ends: str) -> list[float]:
    return [
        round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() / 3600, 3) for end in ends
    ]


async def test_what_is_expected_is_the_range_of_past_deliveries(shop: Shop) -> None:
    for hours in range(10, 20):
        await deliver(shop, hours=hours)
    await place(shop, "1", lines=[line("1-1")], orderPlacedAt=datetime.now(UTC).isoformat())
    assert (await told(shop))["expected"] is None
    await learn(shop)
    seen = await told(shop)
    expected = seen["expected"]
    assert (expected["stage"], expected["based_on"]) == ("SOURCING", 10)
    assert hours_between(seen["placed_at"], expected["earliest"], expected["latest"]) == [14, 18]
    assert seen["is_delayed"] is False


async def test_four_are_too_few_to_expect_anything(shop: Shop) -> None:
    await deliver(shop, hours=5, count=4)
    await learn(shop)
    await place(shop, "1", lines=[line("1-1")])
    seen = await told(shop)
    assert (seen["expected"], seen["is_delayed"]) == (None, False)


async def test_the_next_step_is_the_one_that_most_orders_take(shop: Shop) -> None:
    await deliver(shop, hours=5, count=5)
    await deliver(shop, hours=7, count=6, to="DISPATCHED")
    await learn(shop)
    await place(shop, "1", lines=[line("1-1")], orderPlacedAt=datetime.now(UTC).isoformat())
    expected = (await told(shop))["expected"]
    assert (expected["stage"], expected["based_on"]) == ("DISPATCHED", 6)


async def test_later_than_nine_of_ten_is_delayed_and_nothing_is_expected(shop: Shop) -> None:
    await deliver(shop, hours=5, count=6)
    await learn(shop)
    await place(shop, "1", lines=[line("1-1")], orderPlacedAt=(datetime.now(UTC) - 6 * HOUR).isoformat())
    seen = await told(shop)
    assert (seen["expected"], seen["is_delayed"]) == (None, True)
    await shop.cancel("1")
    seen = await told(shop)
    assert (seen["expected"], seen["is_delayed"], seen["batch"]) == (None, False, None)


async def past_batches(shop: Shop, *hours: int) -> None:
    """Enter batches that were collecting for a day, and took so long to arrive."""
    await shop.edit_store(batch_target_order_count=1)
    for number, each in enumerate(hours):
        await place(shop, f"batched-{number}")
        batch: UUID = (await shop.order(f"batched-{number}"))["batch_id"]
        arrived = datetime.now(UTC) - timedelta(days=3)
        ordered = arrived - each * HOUR
        await shop.admin.run(
            "update public.import_batches set status = 'arrived', created_at = $2, ordered_at = $3, arrived_at = $4 "
            "where id = $1",
            batch, ordered - 24 * HOUR, ordered, arrived,
        )  # fmt: skip


async def test_an_order_in_a_batch_is_expected_as_past_batches_were(shop: Shop) -> None:
    await past_batches(shop, 100, 110, 120, 130, 200)
    await deliver(shop, hours=5, count=20)
    await learn(shop)
    await place(shop, "1")
    batch = await shop.batch((await shop.order("1"))["batch_id"])
    expected = (await told(shop))["expected"]
    assert (expected["stage"], expected["based_on"]) == ("SOURCING", 5)
    assert hours_between(batch["created_at"].isoformat(), expected["earliest"], expected["latest"]) == [24, 24]
    await shop.move_batch(batch["id"], "orderedFromSupplier")
    batch = await shop.batch(batch["id"])
    expected = (await told(shop))["expected"]
    assert (expected["stage"], expected["based_on"]) == ("ARRIVED", 5)
    assert hours_between(batch["ordered_at"].isoformat(), expected["earliest"], expected["latest"]) == [120, 200]


async def test_an_order_that_is_ahead_of_its_batch_is_expected_by_itself(shop: Shop) -> None:
    await past_batches(shop, 100, 110, 120, 130, 200)
    await learn(shop)
    await place(shop, "1")
    await shop.edit_delivery("1", stage="SOURCING")
    assert (await told(shop))["expected"] is None


async def test_a_batch_is_told_until_dispatch(shop: Shop) -> None:
    batch = await shop.admin.insert(BATCHES, target_order_count=3)
    await place(shop, "1", "2")
    assert (await told(shop))["batch"] == {
        "number": batch["batch_number"], "state": "collecting", "orders": 2, "target": 3, "arrives_on": None,
    }  # fmt: skip
    await shop.move_batch(batch["id"], "orderedFromSupplier", "arrived")
    assert (await told(shop))["batch"]["state"] == "arrived"
    await shop.move_batch(batch["id"], "dispatched")
    assert (await told(shop))["batch"] is None


def today() -> date:
    return datetime.now(UTC).astimezone().date()


@pytest.mark.parametrize(("days", "is_delayed"), [(3, False), (-3, True)])
async def test_the_day_that_the_shop_names_counts_more_than_what_was_usual(
    shop: Shop, days: int, is_delayed: bool
) -> None:
    await past_batches(shop, 1, 1, 1, 1, 1)
    await learn(shop)
    await place(shop, "1")
    batch = (await shop.order("1"))["batch_id"]
    named = today() + timedelta(days=days)
    await shop.admin.edit(BATCHES, batch, expected_arrival_date=named.isoformat(), status="orderedFromSupplier")
    seen = await told(shop)
    assert (seen["expected"], seen["is_delayed"]) == (None, is_delayed)
    assert seen["batch"]["arrives_on"] == named.isoformat()
    await shop.move_batch(batch, "arrived")
    assert (await told(shop))["is_delayed"] is False


async def test_a_parcel_is_late_after_the_day_that_was_named_for_it(shop: Shop) -> None:
    await place(shop, "1")
    await shop.edit_delivery("1", stage="DISPATCHED", eta=(today() + timedelta(days=2)).isoformat())
    seen = await told(shop)
    assert (seen["eta"], seen["is_delayed"]) == ((today() + timedelta(days=2)).isoformat(), False)
    await shop.edit_delivery("1", eta=(today() - timedelta(days=2)).isoformat())
    assert (await told(shop))["is_delayed"] is True
    await shop.edit_delivery("1", stage="DELIVERED")
    assert (await told(shop))["is_delayed"] is False


async def test_what_is_no_longer_known_is_forgotten(shop: Shop) -> None:
    await deliver(shop, hours=5, count=6)
    await learn(shop)
    await shop.admin.run("delete from mirror.delivery_durations")
    await learn(shop)
    assert await shop.mirror.column("select stage from mirror.expected_steps") == []


async def test_a_token_opens_the_orders_of_the_customer_who_proved_the_number(shop: Shop) -> None:
    await shop.mirror.take(customer_changed("1", 1, phoneNumber=PHONE), customer_changed("2", 1, phoneNumber="94771"))
    await place(shop, "1", customer={"id": "1"})
    await place(shop, "2", customer={"id": "2"})  # the address has the number, too
    assert await ask(shop, "CODE1", "CODE2", proof="token", phone=PHONE) == [None, None]
    customer = (await shop.mirror.customer("1"))["id"]
    await shop.admin.edit("customers", customer, phone_verified=True)
    found = await ask(shop, "CODE1", "CODE2", proof="token", phone=PHONE)
    assert [order is not None for order in found] == [True, False]
