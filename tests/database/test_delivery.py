"""Where an order is: an admin's edits in either table, the engine's word, corrections, and the history of it all."""

from __future__ import annotations

import asyncpg
import pytest

from tests.database.shop import Shop
from tests.factory import stage_change

NO_NUMBER = "Order CODE1 has no tracking number yet and cannot be DISPATCHED."


async def test_a_placed_order_is_confirmed_and_its_history_begins(shop: Shop) -> None:
    await shop.place("1")
    delivery = await shop.delivery("1")
    placed = (await shop.order("1"))["order_date"]
    assert (delivery["stage"], delivery["confirmed_at"], delivery["stage_since"]) == ("ORDER_CONFIRMED", placed, placed)
    (event,) = await shop.admin.run("select * from order_delivery_status_events")
    assert (event["stage"], event["from_stage"], event["actor"]) == ("ORDER_CONFIRMED", None, "engine:vendure")


@pytest.mark.parametrize("table", ["order_delivery_status", "customer_orders_summary"])
async def test_stage_and_number_are_edited_in_either_table(shop: Shop, table: str) -> None:
    await shop.place("1")
    if table == "order_delivery_status":
        await shop.edit_delivery("1", stage="DISPATCHED", tracking_number=" SLP-1 ")
    else:
        await shop.edit_order("1", tracking_number=" SLP-1 ", delivery_stage="DISPATCHED")
    assert await shop.stages("1") == ["DISPATCHED"]
    delivery = await shop.delivery("1")
    assert (delivery["tracking_number"], delivery["updated_by"]) == ("SLP-1", "studio")
    assert delivery["stage_since"] == delivery["dispatched_at"]
    stage, number = ("ORDER_CONFIRMED", "DISPATCHED", "SLP-1"), ("DISPATCHED", "DISPATCHED", "SLP-1")
    if table == "order_delivery_status":
        expected = [("ORDER_CONFIRMED", "DISPATCHED", None), number]
    else:
        expected = [("ORDER_CONFIRMED", "ORDER_CONFIRMED", "SLP-1"), stage]
    assert [h[:3] for h in await shop.history("1")] == expected


async def test_an_emptied_number_is_none(shop: Shop) -> None:
    await shop.place("1", "2")
    for order in "12":
        await shop.edit_delivery(order, tracking_number="SLP-1")
    await shop.edit_delivery("1", tracking_number="  ")
    await shop.edit_order("2", tracking_number="")
    assert [(await shop.order(order))["tracking_number"] for order in "12"] == [None, None]
    assert await shop.stages("1", "2") == ["ORDER_CONFIRMED", "ORDER_CONFIRMED"]


async def test_who_and_why_are_kept_whatever_the_order_of_the_cells(shop: Shop) -> None:
    await shop.place("1", "2")
    cells = {"note": "boxes are here", "updated_by": "Nadia", "stage": "ARRIVED"}
    await shop.edit_delivery("1", **cells)
    await shop.edit_delivery("2", **dict(reversed(cells.items())))
    for order in "12":
        delivery = await shop.delivery(order)
        assert {name: delivery[name] for name in cells} == cells
        assert (await shop.history(order))[-1][1:] == ("ARRIVED", None, "boxes are here", "Nadia", "studio")


async def test_a_note_belongs_to_one_change(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING", note="ordered", updated_by="Nadia")
    await shop.edit_delivery("1", stage="ARRIVED")
    delivery = await shop.delivery("1")
    assert (delivery["note"], delivery["updated_by"]) == (None, "studio")


@pytest.mark.parametrize("cells", [("stage", "tracking_number"), ("tracking_number", "stage")])
async def test_dispatched_needs_a_number_where_the_store_says_so(shop: Shop, cells: tuple[str, str]) -> None:
    await shop.edit_store(requires_tracking_number=True)
    await shop.place("1")
    for number in (None, "", " "):
        with pytest.raises(asyncpg.CheckViolationError, match=NO_NUMBER) as refused:
            await shop.edit_delivery("1", **{c: {"stage": "DISPATCHED"}.get(c, number) for c in cells})
        assert refused.value.hint == (
            "Enter its tracking_number first, or switch off requires_tracking_number in stores."
        )
    await shop.edit_delivery("1", **{c: {"stage": "DISPATCHED"}.get(c, "SLP-1") for c in cells})
    assert await shop.stages("1") == ["DISPATCHED"]


async def test_the_need_of_a_number_holds_by_every_door_but_the_engines(shop: Shop) -> None:
    await shop.edit_store(requires_tracking_number=True)
    await shop.place("1")
    (batch,) = await shop.batches()
    for attempt in (
        shop.edit_order("1", delivery_stage="DISPATCHED"),
        shop.move_batch(batch["id"], "dispatched"),
        shop.admin.run("select update_order_delivery_status('CODE1', 'DISPATCHED')"),
    ):
        with pytest.raises(asyncpg.CheckViolationError, match=NO_NUMBER):
            await attempt
    assert (await shop.batch(batch["id"]))["status"] == "collecting"
    await shop.place("1", customFields={"deliveryStage": "DISPATCHED"})
    assert await shop.stages("1") == ["DISPATCHED"]


async def test_what_the_engine_says_again_does_not_undo_an_admins_stage(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="ARRIVED", tracking_number="SLP-1")
    await shop.place("1", state="Shipped")
    assert await shop.stages("1") == ["ARRIVED"]
    assert (await shop.delivery("1"))["tracking_number"] == "SLP-1"


async def test_a_new_stage_of_the_engine_wins(shop: Shop) -> None:
    await shop.admin.run("update mirror.integrations set conflict_policy = 'engine_wins'")
    await shop.place("1")
    await shop.edit_delivery("1", stage="ARRIVED", note="here")
    await shop.place("1", customFields={"deliveryStage": "SOURCING"})
    assert await shop.stages("1") == ["SOURCING"]
    assert (await shop.history("1"))[-1][:2] == ("ARRIVED", "SOURCING")
    delivery = await shop.delivery("1")
    assert (delivery["updated_by"], delivery["note"], delivery["arrived_at"]) == ("vendure", None, None)
    assert delivery["stage_since"] == delivery["sourcing_at"]


async def test_a_new_number_of_the_engine_leaves_the_admins_stage(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="ARRIVED")
    await shop.place("1", customFields={"trackingNumber": "SLP-2"})
    assert await shop.stages("1") == ["ARRIVED"]
    assert (await shop.delivery("1"))["tracking_number"] == "SLP-2"


async def test_the_engine_may_go_back_with_or_without_a_history_of_its_own(shop: Shop) -> None:
    sent, back = stage_change("a", "DISPATCHED", 10), stage_change("b", "SOURCING", 20)
    await shop.place("1", customFields={"deliveryStage": "DISPATCHED"}, deliveryStageChanges=[sent])
    await shop.place("2", customFields={"deliveryStage": "DISPATCHED"})
    await shop.place("1", customFields={"deliveryStage": "SOURCING"}, deliveryStageChanges=[sent, back])
    await shop.place("2", customFields={"deliveryStage": "SOURCING"})
    assert await shop.stages("1", "2") == ["SOURCING", "SOURCING"]
    for order in "12":
        assert [h[:2] for h in await shop.history(order)] == [
            ("ORDER_CONFIRMED", "DISPATCHED"), ("DISPATCHED", "SOURCING"),
        ]  # fmt: skip
        delivery = await shop.delivery(order)
        assert (delivery["dispatched_at"], delivery["sourcing_at"] is None) == (None, False)


async def test_an_order_that_went_back_and_on_has_the_times_of_its_present_way(shop: Shop) -> None:
    await shop.place("1")
    for stage in ("SOURCING", "ARRIVED", "DISPATCHED"):
        await shop.edit_delivery("1", stage=stage)
    sourcing = (await shop.delivery("1"))["sourcing_at"]
    await shop.admin.run("select correct_order_delivery_status('CODE1', 'SOURCING', 'wrong parcel')")
    await shop.edit_delivery("1", stage="DISPATCHED")
    before = await shop.delivery("1")
    await shop.place("1", state="Shipped")
    after = await shop.delivery("1")
    assert dict(before) == dict(after)
    assert after["arrived_at"] is None
    assert sourcing < after["sourcing_at"] < after["dispatched_at"]


async def test_a_correction_goes_back_and_the_history_keeps_both(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="DISPATCHED", tracking_number="SLP-1")
    await shop.admin.run("select correct_order_delivery_status('CODE1', 'ARRIVED', 'still on the shelf', 'Nadia')")
    assert await shop.stages("1") == ["ARRIVED"]
    assert (await shop.history("1"))[-1] == (
        "DISPATCHED", "ARRIVED", "SLP-1", "still on the shelf", "Nadia", "studio",
    )  # fmt: skip
    with pytest.raises(asyncpg.CheckViolationError, match="cannot go back"):
        await shop.edit_delivery("1", stage="SOURCING")


async def test_the_function_moves_notes_and_names_and_the_same_call_twice_adds_nothing(shop: Shop) -> None:
    await shop.place("1")
    for call in (
        "select (update_order_delivery_status('CODE1', 'SOURCING', null, 'ok', 'Nadia')).*",
        "select (update_order_delivery_status('CODE1', 'DISPATCHED', 'SLP-1', 'ok', 'Nadia')).*",
    ):
        (first,) = await shop.admin.run(call)
        (second,) = await shop.admin.run(call)
        assert first == second
    assert (second["stage"], second["note"], second["updated_by"]) == ("DISPATCHED", "ok", "Nadia")
    assert await shop.history("1") == [
        ("ORDER_CONFIRMED", "SOURCING", None, "ok", "Nadia", "studio"),
        ("SOURCING", "DISPATCHED", "SLP-1", "ok", "Nadia", "studio"),
    ]
    with pytest.raises(asyncpg.CheckViolationError, match="is DISPATCHED already and cannot go back to ARRIVED"):
        await shop.admin.run("select update_order_delivery_status('CODE1', 'ARRIVED')")


async def test_carrier_and_eta_need_no_history(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", carrier="Trans Express", eta="2026-12-24")
    assert await shop.history("1") == []


async def test_a_cancelled_order_that_is_revived_moves_again(shop: Shop) -> None:
    await shop.place("1")
    await shop.cancel("1")
    assert (await shop.delivery("1"))["is_cancelled"]
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING")
    assert await shop.stages("1") == ["SOURCING"]


async def test_the_code_of_two_stores_is_asked_for_by_row(shop: Shop) -> None:
    await shop.place("1")
    await shop.admin.run(
        "with s as (insert into public.stores (slug, name, currency, phone_region, timezone, locale) "
        "values ('second', 'Second', 'LKR', 'LK', 'UTC', 'en') returning id) "
        "insert into public.customer_orders_summary "
        "(store_id, source, source_id, source_version, order_code, order_date) "
        "select s.id, 'vendure', '1', '-infinity', 'CODE1', now() from s"
    )
    with pytest.raises(asyncpg.PostgresError, match="There are orders of several stores with the code CODE1"):
        await shop.admin.run("select update_order_delivery_status('CODE1', 'SOURCING')")
