"""Whatever order the states of a shop arrive in, and however often: the newest state is what the tables say."""

from __future__ import annotations

import itertools
from decimal import Decimal

import asyncpg
import pytest

from tests.contents import MIRRORED, TABLES, read_contents
from tests.factory import (
    address,
    at,
    customer_changed,
    customer_deleted,
    event,
    line,
    order_changed,
    order_deleted,
    order_document,
    stage_change,
)
from tests.mirror import Mirror

ADDRESSES = "select a.source_id from public.customer_addresses a join public.customers c on c.id = a.customer_id "
LINES = "select i.source_id from public.customer_order_items i order by i.source_id"
LIVE_CODES = """
    select source_id || ' ' || order_code from public.customer_orders_summary where deleted_at is null order by 1
"""
HISTORY = "select stage::text from public.order_delivery_status_events order by updated_at"


async def test_of_two_states_in_the_same_second_the_newer_is_not_dropped(mirror: Mirror) -> None:
    await mirror.take_in_turn(
        order_changed("7", 0.000001, state="PaymentAuthorized"), order_changed("7", 0.000002, state="PaymentSettled")
    )
    assert (await mirror.order("7"))["order_state"] == "PaymentSettled"


async def test_an_older_hook_that_is_tried_again_changes_nothing(mirror: Mirror) -> None:
    newer = order_changed("7", 2, state="Shipped", lines=[line("1"), line("2")])
    await mirror.take(newer)
    before = await read_contents(mirror.connection)
    counts = await mirror.take(order_changed("7", 1, state="PaymentSettled", lines=[line("9")]))
    assert (counts.applied, counts.orders) == (1, 0)
    assert await read_contents(mirror.connection) == before


async def test_the_newest_of_a_slice_is_what_counts(mirror: Mirror) -> None:
    await mirror.take(
        customer_changed("1", 2, firstName="B"), customer_changed("1", 3, firstName="C"),
        customer_changed("1", 1, firstName="A"), customer_deleted("1", 0),
    )  # fmt: skip
    row = await mirror.customer("1")
    assert (row["first_name"], row["deleted_at"]) == ("C", None)


async def test_an_update_that_comes_after_a_later_deletion_resurrects_nothing(mirror: Mirror) -> None:
    await mirror.take_in_turn(
        customer_changed("1", 1), customer_deleted("1", 3), customer_changed("1", 2, firstName="Late"),
        order_changed("7", 1), order_deleted("7", 3), order_changed("7", 2, state="Shipped"),
    )  # fmt: skip
    customer, order = await mirror.customer("1"), await mirror.order("7")
    assert (customer["first_name"], customer["is_active"]) == ("Late", False)
    assert (order["order_state"], customer["deleted_at"]) == ("Shipped", order["deleted_at"])
    assert order["deleted_at"] is not None


async def test_a_state_that_is_newer_than_the_deletion_brings_the_entity_back(mirror: Mirror) -> None:
    events = (customer_deleted("1", 2), customer_changed("1", 3), order_deleted("7", 2), order_changed("7", 3))
    await mirror.take_in_turn(*events)
    back = await read_contents(mirror.connection)
    assert (await mirror.customer("1"))["is_active"]
    assert (await mirror.order("7"))["deleted_at"] is None
    await mirror.take_in_turn(*(event(e["type"], e["entityId"], 2, None) for e in (events[0], events[2])))
    assert await read_contents(mirror.connection) == back


async def test_a_deletion_may_be_the_first_that_is_heard(mirror: Mirror) -> None:
    await mirror.take(customer_deleted("1", 2), order_deleted("7", 2))
    await mirror.take(customer_changed("1", 1), order_changed("7", 1))
    customer, order = await mirror.customer("1"), await mirror.order("7")
    assert customer["deleted_at"] == order["deleted_at"]
    assert (customer["is_active"], order["order_code"]) == (False, "CODE7")


async def test_an_older_state_from_a_backfill_does_not_overwrite(mirror: Mirror) -> None:
    await mirror.take(order_changed("7", 100, state="Delivered"), customer_changed("1", 100, firstName="Now"))
    older = [order_changed("7", 1), customer_changed("1", 1), order_changed("8", 1), customer_changed("2", 1)]
    counts = await mirror.take(*older)
    assert (counts.applied, counts.customers, counts.orders) == (4, 1, 1)
    assert (await mirror.order("7"))["order_state"] == "Delivered"
    assert (await mirror.customer("1"))["first_name"] == "Now"


async def test_equal_content_advances_the_version(mirror: Mirror) -> None:
    await mirror.take_in_turn(order_changed("7", 1, state="A"), order_changed("7", 5, state="A"))
    await mirror.take_in_turn(customer_changed("1", 1), customer_changed("1", 5))
    await mirror.take(order_changed("7", 3, state="B"), customer_changed("1", 3, firstName="B"))
    order, customer = await mirror.order("7"), await mirror.customer("1")
    assert order["order_state"] == "A"
    assert customer["first_name"] == "Nimal"
    assert order["source_version"] == customer["source_version"]


async def test_lines_that_are_gone_from_the_order_go(mirror: Mirror) -> None:
    await mirror.take(order_changed("7", 1, lines=[line("1"), line("2")]))
    await mirror.take(order_changed("7", 2, lines=[line("2", quantity=0), line("3")]))
    assert await mirror.column(LINES) == ["2", "3"]
    assert (await mirror.row("customer_order_items", "2"))["quantity"] == 0
    await mirror.take(order_changed("7", 3, lines=[]))
    assert await mirror.column(LINES) == []


async def test_addresses_that_are_gone_from_the_book_go(mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, addresses=[address("1"), address("2")]))
    await mirror.take(customer_changed("1", 2, addresses=[address("2", city="Kandy")]))
    assert await mirror.column(ADDRESSES) == ["2"]
    assert (await mirror.row("customer_addresses", "2"))["city"] == "Kandy"


@pytest.mark.parametrize("in_one_slice", [True, False])
async def test_an_address_that_moved_is_in_the_newer_book(mirror: Mirror, in_one_slice: bool) -> None:
    for number, order in enumerate(itertools.permutations(range(3)), 1):
        former, latter, moved = f"{number}1", f"{number}2", f"{number}5"
        events = (
            customer_changed(former, 1, addresses=[address(moved, city="Galle")]),
            customer_changed(latter, 2, addresses=[address(moved, city="Kandy")]),
            customer_changed(former, 3),
        )
        ordered = [events[position] for position in order]
        await (mirror.take(*ordered) if in_one_slice else mirror.take_in_turn(*ordered))
        assert await mirror.column(ADDRESSES + "where c.source_id = $1 and a.city = 'Kandy'", latter) == [moved]
    assert set(await mirror.events()) == {"applied"}


async def test_an_address_that_moved_within_a_slice_does_not_hold_the_slice_up(mirror: Mirror) -> None:
    counts = await mirror.take(
        customer_changed("1", 1, addresses=[address("5")]), customer_changed("2", 2, addresses=[address("5")])
    )
    assert (counts.applied, counts.customers) == (2, 2)
    assert await mirror.column(ADDRESSES + "where c.source_id = '2'") == ["5"]


async def test_an_order_may_come_before_its_customer(mirror: Mirror) -> None:
    await mirror.take(order_changed("7", 5))
    reference = await mirror.customer("1")
    assert (reference["email"], reference["is_active"]) == (None, True)
    await mirror.take(customer_changed("1", 1, emailAddress="Nimal@Example.com"))
    order = await mirror.order("7")
    assert (order["customer_id"], order["contact_email"]) == (reference["id"], "nimal@example.com")
    assert (await mirror.customer("1"))["is_active"]


async def test_an_orders_contact_e_mail_follows_its_customer(mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, emailAddress="old@example.com"), order_changed("7", 1))
    await mirror.take(customer_changed("1", 2, emailAddress="new@example.com"))
    assert (await mirror.order("7"))["contact_email"] == "new@example.com"
    await mirror.take(
        customer_changed("2", 3, emailAddress="two@example.com"), order_changed("7", 3, customer={"id": "2"})
    )
    assert (await mirror.order("7"))["contact_email"] == "two@example.com"
    await mirror.take(customer_changed("1", 4, emailAddress="newer@example.com"))
    assert (await mirror.order("7"))["contact_email"] == "two@example.com"


MONEY = [
    ("JPY", 123456789012345678901234567890, "123456789012345678901234567890"),
    ("LKR", 9223372036854775808, "92233720368547758.08"),
    ("KWD", 9223372036854775809, "9223372036854775.809"),
    ("KWD", 1, "0.001"),
    ("LKR", -5, "-0.05"),
]


async def test_the_code_of_a_deleted_order_is_free(mirror: Mirror) -> None:
    await mirror.take_in_turn(order_changed("7", 1, code="A1"), order_deleted("7", 2), order_changed("8", 3, code="A1"))
    await mirror.take(order_changed("9", 1, code="B1"), order_deleted("9", 2), order_changed("10", 3, code="B1"))
    assert await mirror.column(LIVE_CODES) == ["10 B1", "8 A1"]
    assert set(await mirror.events()) == {"applied"}


async def test_an_order_waits_for_its_code_until_the_other_one_has_given_it_up(mirror: Mirror) -> None:
    await mirror.take(order_changed("7", 1, code="A1"))
    assert (await mirror.take(order_changed("8", 3, code="A1"))).retried == 1
    await mirror.take(order_changed("7", 2, code="B1"))
    await mirror.connection.execute("update mirror.webhook_events set available_at = now()")
    await mirror.drain().run()
    assert await mirror.column(LIVE_CODES) == ["7 B1", "8 A1"]
    assert set(await mirror.events()) == {"applied"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_a_deleted_customers_orders_have_the_last_e_mail_in_any_order(
    mirror: Mirror, order: tuple[int, ...]
) -> None:
    events = [
        customer_changed("1", 1, emailAddress="a@example.com"),
        order_changed("7", 2, customer={"id": "1"}),
        customer_changed("1", 3, emailAddress="b@example.com"),
        customer_deleted("1", 5),
    ]
    await mirror.take_in_turn(*(events[number] for number in order))
    assert (await mirror.order("7"))["contact_email"] == "b@example.com"


async def test_money_is_exact_beyond_what_an_integer_holds(mirror: Mirror) -> None:
    for number, (currency, minor_units, amount) in enumerate(MONEY):
        order_id = str(number)
        lines = [line(order_id, unitPriceWithTax=minor_units, proratedLinePriceWithTax=minor_units)]
        totals = {"currencyCode": currency, "totalWithTax": minor_units, "total": 0, "lines": lines}
        await mirror.take(order_changed(order_id, 1, **totals))
        order, item = await mirror.order(order_id), await mirror.row("customer_order_items", order_id)
        assert {order["total_with_tax"], order["tax"], item["unit_price_with_tax"]} == {Decimal(amount)}


async def test_the_engines_ids_have_columns_of_their_own(mirror: Mirror) -> None:
    await mirror.take(customer_changed("1", 1, addresses=[address("5")]), order_changed("7", 1))
    assert (await mirror.customer("1"))["vendure_customer_id"] == "1"
    assert (await mirror.row("customer_addresses", "5"))["vendure_address_id"] == "5"
    assert (await mirror.order("7"))["vendure_order_id"] == "7"
    with pytest.raises(asyncpg.GeneratedAlwaysError):
        await mirror.connection.execute("update public.customers set vendure_customer_id = '2'")


async def test_the_history_grows_and_the_status_is_the_newest(mirror: Mirror) -> None:
    changes = [stage_change("1", "SOURCING", 1), stage_change("2", "DISPATCHED", 2, trackingNumber="T1")]
    fields = {"deliveryStage": "DISPATCHED", "trackingNumber": "T1"}
    await mirror.take_in_turn(
        order_changed("7", 3, customFields=fields, deliveryStageChanges=changes),
        order_changed("7", 1, customFields={"deliveryStage": "SOURCING"}, deliveryStageChanges=changes[:1]),
    )
    assert await mirror.column(HISTORY) == ["ORDER_CONFIRMED", "SOURCING", "DISPATCHED"]
    status = await mirror.connection.fetchrow("select * from public.order_delivery_status")
    assert status is not None
    assert (status["stage"], status["tracking_number"], status["order_code"]) == ("DISPATCHED", "T1", "CODE7")
    assert (await mirror.order("7"))["delivery_stage"] == "DISPATCHED"


async def test_a_stage_without_a_history_is_dated_by_the_reading(mirror: Mirror) -> None:
    await mirror.take(order_changed("7", 5, customFields={"deliveryStage": "ARRIVED"}))
    await mirror.take(order_changed("7", 9, customFields={"deliveryStage": "ARRIVED"}))
    assert await mirror.column(HISTORY) == ["ORDER_CONFIRMED", "ARRIVED"]
    (source_id,) = await mirror.column(
        "select source_id from public.order_delivery_status_events where stage = 'ARRIVED'"
    )
    assert source_id == f"read {at(5)}"


async def test_an_order_without_a_customer_is_kept(mirror: Mirror) -> None:
    await mirror.take(event("order.changed", "7", 1, order_document("7", customer=None)))
    assert (await mirror.order("7"))["customer_id"] is None


async def test_contents_are_those_of_every_mirrored_table(connection: asyncpg.Connection) -> None:
    tables = {row["relname"] for row in await connection.fetch(MIRRORED)}
    made_here = {"stores", "import_batches", "order_batch_assignments", "supplier_purchase_lists", "otp_sessions"}
    made_here |= {"lexoffice_sync_logs"}
    assert tables - made_here == set(TABLES)
