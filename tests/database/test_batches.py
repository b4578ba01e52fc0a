"""Import batches as an admin lives them in Studio: orders join, a batch fills, moves on, and its orders follow."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tests.database.shop import ASSIGNMENTS, BATCHES, Shop
from tests.factory import line

STATUSES = ["orderedFromSupplier", "inTransit", "arrived", "dispatched", "completed"]


async def test_a_batch_that_an_admin_opens_is_collecting_and_has_a_number(shop: Shop) -> None:
    batch = await shop.admin.insert(BATCHES, name="November", target_order_count=40)
    day = datetime.now(UTC).astimezone(ZoneInfo("Asia/Colombo")).strftime("%Y%m%d")
    assert batch["batch_number"] == f"{day}-0001"
    assert (batch["status"], batch["order_count"], batch["is_ready"]) == ("collecting", 0, False)


async def test_numbers_that_an_admin_has_entered_are_not_given_again(shop: Shop) -> None:
    first = (await shop.admin.run("select generate_batch_number()"))[0][0]
    following = first[:-4] + "0002"
    await shop.admin.insert(BATCHES, batch_number=following, status="completed")
    await shop.place("1")
    assert [b["batch_number"] for b in await shop.batches()] == [following, first[:-4] + "0003"]


async def test_pre_orders_join_the_open_batch_and_others_do_not(shop: Shop) -> None:
    batch = await shop.admin.insert(BATCHES, name="November")
    await shop.mirror.take(
        shop.told("1"), shop.told("2", lines=[line("2-1")]), shop.told("3", state="Cancelled"),
        shop.told("4", customFields={"deliveryStage": "ARRIVED"}),
    )  # fmt: skip
    assert await shop.orders_in(batch["id"]) == ["1"]
    assert (await shop.batch(batch["id"]))["order_count"] == 1
    assert (await shop.assignment("1"))["vendure_order_id"] == "1"


async def test_every_order_joins_where_the_store_says_so(shop: Shop) -> None:
    await shop.edit_store(batches_all_orders=True)
    await shop.place("1", "2", lines=[line("1")])
    (batch,) = await shop.batches()
    assert await shop.orders_in(batch["id"]) == ["1", "2"]


async def test_an_order_that_becomes_a_pre_order_joins_then(shop: Shop) -> None:
    await shop.place("1", lines=[line("1-1")])
    assert await shop.batches() == []
    await shop.place("1")
    (batch,) = await shop.batches()
    assert await shop.orders_in(batch["id"]) == ["1"]


async def test_a_full_batch_is_ready_and_the_next_one_opens(shop: Shop) -> None:
    first = await shop.admin.insert(BATCHES, target_order_count=2)
    await shop.place("1", "2")
    opened = await shop.batches()
    assert [(b["is_ready"], b["order_count"], b["target_order_count"]) for b in opened] == [(True, 2, 2), (False, 0, 2)]
    await shop.place("3")
    assert await shop.orders_in(first["id"]) == ["1", "2"]
    assert await shop.orders_in(opened[1]["id"]) == ["3"]


async def test_a_slice_larger_than_the_room_is_split_over_batches(shop: Shop) -> None:
    await shop.edit_store(batch_target_order_count=2)
    await shop.place("1", "2", "3", "4", "5")
    assert [(b["order_count"], b["is_ready"]) for b in await shop.batches()] == [(2, True), (2, True), (1, False)]


async def test_a_place_that_becomes_free_is_filled_first(shop: Shop) -> None:
    await shop.edit_store(batch_target_order_count=2)
    await shop.place("1", "2", "3")
    await shop.cancel("1")
    first, _ = await shop.batches()
    assert (first["order_count"], first["is_ready"]) == (1, False)
    await shop.place("4")
    assert await shop.orders_in(first["id"]) == ["1", "2", "4"]
    assert (await shop.batch(first["id"]))["order_count"] == 2


async def test_a_target_that_is_changed_counts_at_once(shop: Shop) -> None:
    batch = await shop.admin.insert(BATCHES, name="November")
    await shop.place("1", "2")
    assert (await shop.admin.edit(BATCHES, batch["id"], target_order_count=2))["is_ready"]
    assert len(await shop.batches()) == 2
    assert not (await shop.admin.edit(BATCHES, batch["id"], target_order_count=None))["is_ready"]


async def test_six_statuses_move_the_stages_of_the_orders(shop: Shop) -> None:
    await shop.place("1", "2")
    (batch,) = await shop.batches()
    seen = []
    for status in STATUSES:
        await shop.move_batch(batch["id"], status)
        seen.append(await shop.stages("1", "2"))
    expected = ["SOURCING", "SOURCING", "ARRIVED", "DISPATCHED", "DELIVERED"]
    assert seen == [[stage, stage] for stage in expected]
    moved = await shop.batch(batch["id"])
    times = [moved[f"{name}_at"] for name in ("ordered", "in_transit", "arrived", "dispatched", "completed")]
    assert times == sorted(times)
    by = f"batch {batch['batch_number']}"
    assert [(h[1], h[4], h[5]) for h in await shop.history("1")] == [
        (stage, by, "studio") for stage in dict.fromkeys(expected)
    ]


async def test_a_batch_moves_its_orders_forwards_only_and_leaves_cancelled_ones(shop: Shop) -> None:
    await shop.place("1", "2", "3")
    (batch,) = await shop.batches()
    await shop.cancel("2")
    await shop.edit_delivery("3", stage="DISPATCHED")
    await shop.move_batch(batch["id"], "orderedFromSupplier", "arrived")
    assert await shop.stages("1", "2", "3") == ["ARRIVED", "ORDER_CONFIRMED", "DISPATCHED"]


async def test_a_batch_may_leave_statuses_out(shop: Shop) -> None:
    await shop.place("1")
    (batch,) = await shop.batches()
    await shop.move_batch(batch["id"], "dispatched")
    assert await shop.stages("1") == ["DISPATCHED"]
    moved = await shop.batch(batch["id"])
    assert (moved["ordered_at"], moved["dispatched_at"] is None) == (None, False)


async def test_status_and_its_time_may_be_saved_together(shop: Shop) -> None:
    day = datetime(2026, 11, 1, tzinfo=UTC)
    first = await shop.admin.insert(BATCHES, name="a")
    second = await shop.admin.insert(BATCHES, name="b")
    first = await shop.admin.edit(BATCHES, first["id"], ordered_at=day, status="orderedFromSupplier")
    second = await shop.admin.edit(BATCHES, second["id"], status="orderedFromSupplier", ordered_at=day)
    assert (first["ordered_at"], second["ordered_at"]) == (day, day)


async def test_an_order_is_moved_by_its_assignment(shop: Shop) -> None:
    await shop.place("1", "2")
    (batch,) = await shop.batches()
    other = await shop.admin.insert(BATCHES, name="other")
    await shop.admin.edit(ASSIGNMENTS, (await shop.assignment("1"))["id"], batch_id=other["id"])
    assert (await shop.orders_in(batch["id"]), await shop.orders_in(other["id"])) == (["2"], ["1"])
    assert [b["order_count"] for b in await shop.batches()] == [1, 1]


async def test_an_order_is_moved_by_its_own_batch_cell(shop: Shop) -> None:
    await shop.place("1", "2")
    (batch,) = await shop.batches()
    other = await shop.admin.insert(BATCHES, name="other")
    await shop.edit_order("1", batch_id=other["id"])
    assert (await shop.orders_in(batch["id"]), await shop.orders_in(other["id"])) == (["2"], ["1"])
    assert [b["order_count"] for b in await shop.batches()] == [1, 1]
    assert (await shop.assignment("1"))["assigned_by"] == "studio"


async def test_an_order_is_pulled_out_either_way_and_joins_no_batch_by_itself_again(shop: Shop) -> None:
    await shop.place("1", "2")
    (batch,) = await shop.batches()
    await shop.edit_order("1", batch_id=None)
    await shop.admin.delete(ASSIGNMENTS, (await shop.assignment("2"))["id"])
    assert (await shop.orders_in(batch["id"]), (await shop.batch(batch["id"]))["order_count"]) == ([], 0)
    await shop.place("1", "2")
    assert await shop.orders_in(batch["id"]) == []


async def test_an_order_is_put_into_a_batch_by_a_new_row(shop: Shop) -> None:
    await shop.place("1", lines=[line("1-1")])
    batch = await shop.admin.insert(BATCHES, name="November")
    await shop.admin.insert(ASSIGNMENTS, order_summary_id=(await shop.order("1"))["id"], batch_id=batch["id"])
    assert await shop.orders_in(batch["id"]) == ["1"]


async def test_an_order_that_joins_a_batch_further_on_catches_up_and_nobody_else_moves(shop: Shop) -> None:
    await shop.place("1", "2")
    (batch,) = await shop.batches()
    await shop.edit_order("2", batch_id=None)
    await shop.move_batch(batch["id"], "arrived")
    await shop.admin.run("select correct_order_delivery_status('CODE1', 'SOURCING', 'still in the ship', 'Nadia')")
    await shop.edit_order("2", batch_id=batch["id"])
    assert await shop.stages("1", "2") == ["SOURCING", "ARRIVED"]


async def test_an_order_pulled_out_keeps_its_stage(shop: Shop) -> None:
    await shop.place("1")
    (batch,) = await shop.batches()
    await shop.move_batch(batch["id"], "arrived")
    await shop.edit_order("1", batch_id=None)
    assert await shop.stages("1") == ["ARRIVED"]


async def test_counts_leave_out_cancelled_and_deleted_orders_until_they_are_back(shop: Shop) -> None:
    await shop.place("1", "2", "3")
    (batch,) = await shop.batches()
    await shop.cancel("1")
    await shop.remove("2")
    assert (await shop.batch(batch["id"]))["order_count"] == 1
    await shop.place("1", "2")
    assert (await shop.batch(batch["id"]))["order_count"] == 3


async def test_an_order_of_a_completed_batch_can_be_bought_again(shop: Shop) -> None:
    await shop.place("1")
    (batch,) = await shop.batches()
    await shop.move_batch(batch["id"], "completed")
    again = await shop.admin.insert(BATCHES, name="again")
    await shop.edit_order("1", batch_id=again["id"])
    assert [b["order_count"] for b in await shop.batches()] == [1, 1]
    await shop.edit_order("1", batch_id=None)
    assert await shop.orders_in(batch["id"]) == ["1"]
    assert [b["order_count"] for b in await shop.batches()] == [1, 0]
    assert (await shop.assignment("1"))["assigned_by"] == "engine:vendure"


async def test_a_batch_of_another_day_or_store_has_numbers_of_its_own(shop: Shop) -> None:
    ((number,),) = await shop.admin.run(
        "insert into public.stores (slug, name, currency, phone_region, timezone, locale) "
        "values ('kiritimati', 'East', 'LKR', 'LK', 'Pacific/Kiritimati', 'en') returning mirror.next_batch_number(id)"
    )
    day = datetime.now(UTC).astimezone(ZoneInfo("Pacific/Kiritimati")).strftime("%Y%m%d")
    assert number == f"{day}-0001"


async def test_a_batch_without_orders_or_lists_can_be_deleted(shop: Shop) -> None:
    batch = await shop.admin.insert(BATCHES, name="by mistake")
    await shop.admin.delete(BATCHES, batch["id"])
    assert await shop.batches() == []
