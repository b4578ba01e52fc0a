"""What an admin may not do in Studio, and what the admin reads then: a sentence, and a hint of what to do instead."""

from __future__ import annotations

from tests.database.shop import ASSIGNMENTS, BATCHES, DELIVERY, ORDERS, Shop
from tests.database.studio import refusal

AGAIN = (
    "To buy the order again, put it into an open batch as well: a new row of order_batch_assignments, "
    "or the order's batch_id."
)
CORRECT = (
    "If that was a mistake, correct it in the SQL editor: "
    "select correct_order_delivery_status('CODE1', 'SOURCING', 'why', 'your name');"
)


async def test_a_batch(shop: Shop) -> None:
    await shop.place("1")
    (batch,) = await shop.batches()
    batch_id, number = batch["id"], batch["batch_number"]
    empty = await shop.admin.insert(BATCHES, batch_number="listed")
    await shop.admin.run("update order_batch_assignments set batch_id = $1", empty["id"])
    await shop.admin.run("select export_supplier_purchase_list($1)", empty["id"])
    await shop.admin.run("update order_batch_assignments set batch_id = $1", batch_id)
    await shop.move_batch(batch_id, "arrived")
    ((store,),) = await shop.admin.run(
        "insert into public.stores (slug, name, currency, phone_region, timezone, locale) "
        "values ('second', 'Second', 'LKR', 'LK', 'UTC', 'en') returning id"
    )
    edit, delete = shop.admin.edit, shop.admin.delete
    assert await refusal(delete(BATCHES, batch_id)) == (
        f"Batch {number} has orders in it and cannot be deleted.",
        "Move its orders into another batch first, or complete it.",
    )
    assert await refusal(delete(BATCHES, empty["id"])) == (
        "Batch listed has purchase lists and cannot be deleted.",
        "It is part of the shop's history: complete it instead.",
    )
    assert await refusal(edit(BATCHES, batch_id, status="orderedFromSupplier")) == (
        f"Batch {number} is arrived already and cannot go back to orderedFromSupplier.",
        "A batch moves forward only. Orders that are not that far can be moved into another batch.",
    )
    assert await refusal(edit(BATCHES, batch_id, order_count=7)) == (
        "order_count is counted by the mirror and cannot be edited.",
        "It follows the rows of order_batch_assignments.",
    )
    assert await refusal(edit(BATCHES, batch_id, is_ready=True)) == (
        "is_ready is kept by the mirror and cannot be edited.",
        "A collecting batch is ready when order_count reaches target_order_count.",
    )
    assert await refusal(edit(BATCHES, batch_id, store_id=store)) == (
        f"Batch {number} stays with its store.",
        "Open a batch for the other store.",
    )


async def test_an_order_in_an_open_batch(shop: Shop) -> None:
    await shop.place("1", "2", "3")
    await shop.cancel("2")
    (batch,) = await shop.batches()
    ((store,),) = await shop.admin.run(
        "insert into public.stores (slug, name, currency, phone_region, timezone, locale) "
        "values ('second', 'Second', 'LKR', 'LK', 'UTC', 'en') returning id"
    )
    foreign = await shop.admin.insert(BATCHES, store_id=store, batch_number="F-1")
    done = await shop.admin.insert(BATCHES, batch_number="done", status="completed")
    other = await shop.admin.insert(BATCHES, batch_number="other")
    await shop.edit_order("2", batch_id=None)
    row = (await shop.assignment("1"))["id"]
    one, two, three = [(await shop.order(order))["id"] for order in "123"]
    insert, edit = shop.admin.insert, shop.admin.edit
    assert await refusal(insert(ASSIGNMENTS, order_summary_id=one, batch_id=other["id"])) == (
        f"Order CODE1 is in batch {batch['batch_number']} already.",
        "Change batch_id in its row of order_batch_assignments, or in the order itself, to move it.",
    )
    assert await refusal(insert(ASSIGNMENTS, order_summary_id=two, batch_id=other["id"])) == (
        "Order CODE2 is cancelled and cannot join a batch.",
        "Choose an order that is not cancelled.",
    )
    for attempt in (edit(ASSIGNMENTS, row, batch_id=foreign["id"]), shop.edit_order("1", batch_id=foreign["id"])):
        assert await refusal(attempt) == (
            "Order CODE1 and batch F-1 belong to different stores.",
            "Choose a batch of the order's store.",
        )
    for attempt in (edit(ASSIGNMENTS, row, batch_id=done["id"]), shop.edit_order("1", batch_id=done["id"])):
        assert await refusal(attempt) == (
            "Batch done is completed and takes no more orders.",
            "Choose a batch that is not completed.",
        )
    assert await refusal(edit(ASSIGNMENTS, row, order_summary_id=three)) == (
        "A row of order_batch_assignments stays with its order.",
        "Change its batch_id, or delete it and add one for the other order.",
    )
    assert await refusal(edit(ASSIGNMENTS, row, is_open=False)) == (
        "is_open is kept by the mirror and cannot be edited.",
        "Complete the batch, and its rows close; delete a row to pull its order out.",
    )


async def test_an_order_in_a_completed_batch(shop: Shop) -> None:
    await shop.place("1")
    (batch,) = await shop.batches()
    other = await shop.admin.insert(BATCHES, name="other")
    await shop.move_batch(batch["id"], "completed")
    row = (await shop.assignment("1"))["id"]
    for attempt in (
        shop.admin.edit(ASSIGNMENTS, row, batch_id=other["id"]),
        shop.admin.delete(ASSIGNMENTS, row),
        shop.edit_order("1", batch_id=None),
    ):
        assert await refusal(attempt) == (
            f"Batch {batch['batch_number']} is completed: its orders stay in it.",
            AGAIN,
        )
    assert await shop.orders_in(batch["id"]) == ["1"]


async def test_a_delivery(shop: Shop) -> None:
    await shop.place("1", "2")
    await shop.edit_delivery("1", stage="ARRIVED")
    await shop.cancel("2")
    one = await shop.delivery("1")
    for attempt in (shop.edit_delivery("1", stage="SOURCING"), shop.edit_order("1", delivery_stage="SOURCING")):
        assert await refusal(attempt) == (
            "Order CODE1 is ARRIVED already and cannot go back to SOURCING.",
            CORRECT,
        )
    for attempt in (shop.edit_delivery("2", stage="SOURCING"), shop.edit_order("2", delivery_stage="SOURCING")):
        assert await refusal(attempt) == (
            "Order CODE2 is cancelled: its delivery does not move.",
            "If it is delivered all the same, place a new order in the shop.",
        )
    for cells in ({"is_cancelled": True}, {"arrived_at": "2026-11-01"}, {"delivered_at": "2026-11-01"}):
        assert await refusal(shop.edit_delivery("1", **cells)) == (
            "is_cancelled and the times of the stages are kept by the mirror and cannot be edited.",
            "Change the stage; an order is cancelled in the shop.",
        )
    assert await refusal(shop.edit_delivery("1", order_code="CODE9")) == (
        "The delivery of order CODE1 stays with its order.",
        "Change the row of the other order.",
    )
    assert await refusal(shop.admin.delete(DELIVERY, one["id"])) == (
        "The delivery of order CODE1 cannot be deleted.",
        "Every order has one: change its stage, or cancel the order in the shop.",
    )
    assert await refusal(shop.admin.delete(ORDERS, (await shop.order("1"))["id"])) == (
        "Order CODE1 has a history and cannot be deleted.",
        "Cancel it in the shop: the mirror follows.",
    )


async def test_history_and_purchase_lists(shop: Shop) -> None:
    await shop.place("1")
    (batch,) = await shop.batches()
    await shop.admin.run("select export_supplier_purchase_list($1)", batch["id"])
    for table, column in (("order_delivery_status_events", "note"), ("supplier_purchase_lists", "print_name")):
        ((row,),) = await shop.admin.run(f"select id from public.{table}")
        for attempt in (shop.admin.delete(table, row), shop.admin.edit(table, row, **{column: "other"})):
            assert await refusal(attempt) == (
                f"The history in {table} is not changed or removed.",
                "Leave it as it is: what happened later is a new row.",
            )


async def test_functions_say_what_they_do_not_find(shop: Shop) -> None:
    nobody = "00000000-0000-7000-8000-000000000000"
    take_it = "Take it from the column id of"
    for call, sentence, hint in (
        ("update_customer_statistics", f"There is no customer with the id {nobody}.", f"{take_it} customers."),
        ("get_batch_statistics", f"There is no batch with the id {nobody}.", f"{take_it} import_batches."),
        ("export_supplier_purchase_list", f"There is no batch with the id {nobody}.", f"{take_it} import_batches."),
    ):
        assert await refusal(shop.admin.run(f"select * from {call}($1)", nobody)) == (sentence, hint)
    assert await refusal(shop.admin.run("select update_order_delivery_status('NONE', 'SOURCING')")) == (
        "There is no order with the code NONE.",
        "Take the code from customer_orders_summary.order_code, or edit the row of order_delivery_status.",
    )
