"""Payments and refunds that shop and payment provider both tell of: they meet, in any order, and count once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

from sync.engines.base import Context, Event
from sync.engines.registry import ENGINES
from sync.money import parse, print_money, read_money
from sync.records import Record
from sync.slices import newest_records
from tests.contents import LET_EMPTY, TABLES, Contents, read_contents
from tests.factory import (
    Document,
    customer_changed,
    fulfillment,
    order_changed,
    order_deleted,
    payment,
    received,
    refund,
    transition,
)
from tests.mirror import Mirror
from tests.provider import Provider, deleted, invoice, paid, plan, refunded, subscription

ATTENTION = "select reason from public.orders_needing_attention where order_code = 'CODE1'"


@pytest.fixture
async def provider(mirror: Mirror) -> Provider:
    return await Provider.over(mirror.database, mirror.connection)


async def the_row(mirror: Mirror, table: str) -> asyncpg.Record:
    (row,) = await mirror.connection.fetch(f"select * from public.{table}")
    return row


async def spent(mirror: Mirror) -> Decimal:
    total: Decimal = (await mirror.customer("1"))["total_spent"]
    return total


def order(read_at: float, *payments: Document, **fields: Any) -> Document:
    """Return the event of order 1, of customer 1, with payments."""
    return order_changed("1", read_at, payments=list(payments), **fields)


def by_stripe(**fields: Any) -> Document:
    """Return a payment as Vendure's Stripe plugin makes it."""
    return payment("1", **{"method": "stripe", "transactionId": "pi_1", **fields})


@pytest.mark.parametrize("first", ["shop", "provider"])
async def test_a_payment_that_both_tell_of_is_one_row(mirror: Mirror, provider: Provider, first: str) -> None:
    if first == "shop":
        await mirror.take(customer_changed("1", 1), order(1, by_stripe()))
    await provider.tell(paid("pi_1", stripe_charge_id="ch_7", order_code="CODE1"))
    if first == "provider":
        assert (await the_row(mirror, "payments"))["order_summary_id"] is None
        await mirror.take(customer_changed("1", 1), order(1, by_stripe()))
    row = await the_row(mirror, "payments")
    assert row["order_summary_id"] == (await mirror.order("1"))["id"]
    assert row["customer_id"] == (await mirror.customer("1"))["id"]
    assert (row["stripe_payment_intent_id"], row["vendure_payment_id"], row["stripe_charge_id"]) == (
        "pi_1",
        "1",
        "ch_7",
    )
    assert (row["method"], row["status"], row["shop_state"], row["provider_state"]) == (
        "stripe", "paid", "Settled", "succeeded",
    )  # fmt: skip
    assert row["disagreement"] is None
    assert await mirror.column(ATTENTION) == []


async def test_what_only_one_of_them_knows_the_other_does_not_overwrite(mirror: Mirror, provider: Provider) -> None:
    await provider.tell(
        paid("pi_1", status="failed", source_status="requires_payment_method", failure_reason="Your card was declined.")
    )
    await mirror.take(order(1, by_stripe(state="Declined", errorMessage=None)))
    await mirror.take(order(2, by_stripe(state="Declined", method="stripe-eu")))
    row = await the_row(mirror, "payments")
    assert (row["method"], row["status"], row["failure_reason"]) == ("stripe-eu", "failed", "Your card was declined.")
    assert row["disagreement"] is None


@pytest.mark.parametrize(
    ("shop", "provider_says", "sentence"),
    [
        ({}, {"amount": Decimal("900.00")}, "1000.00 LKR in the shop, 900.00 LKR at Stripe"),
        ({}, {"currency": "EUR"}, "1000.00 LKR in the shop, 1000.00 EUR at Stripe"),
        ({}, {"status": "cancelled", "source_status": "canceled"}, "Settled in the shop, canceled at Stripe"),
        ({"state": "Authorized"}, {}, "Authorized in the shop, succeeded at Stripe"),
        ({}, {"order_code": "CODE2"}, "Stripe says that it is of another order, CODE2"),
    ],
)
async def test_what_they_disagree_about_an_admin_sees(
    mirror: Mirror, provider: Provider, shop: Document, provider_says: dict[str, Any], sentence: str
) -> None:
    await mirror.take(order(1, by_stripe(**shop)), order_changed("2", 1, payments=[]))
    await provider.tell(paid("pi_1", **provider_says))
    row = (await mirror.connection.fetch("select * from public.payments"))[0]
    assert row["disagreement"] == sentence
    assert await mirror.column(ATTENTION) == ["money disagrees"]
    await provider.tell(paid("pi_1", 2))
    await mirror.take(order(2, by_stripe()))
    assert (await the_row(mirror, "payments"))["disagreement"] is None
    assert await mirror.column(ATTENTION) == []


async def test_what_was_paid_without_the_shop_knowing_an_admin_sees(mirror: Mirror, provider: Provider) -> None:
    await provider.tell(paid("pi_9", order_code="CODE1"))
    await mirror.take(order(1))
    row = await the_row(mirror, "payments")
    assert row["disagreement"] == "paid 1000.00 LKR at Stripe: the shop does not tell of it"
    assert await mirror.column(ATTENTION) == ["money disagrees"]


async def test_a_payment_that_the_shop_tells_twice_is_told_apart(mirror: Mirror, provider: Provider) -> None:
    await provider.tell(paid("pi_1"))
    await mirror.take(order(1, by_stripe(), {**by_stripe(), "id": "2"}))
    rows = await mirror.connection.fetch("select * from public.payments order by source_id")
    assert [(row["stripe_payment_intent_id"], row["disagreement"]) for row in rows] == [
        ("pi_1", None),
        (None, "the shop tells of pi_1 more than once"),
    ]


PLUGINS_REFUND = {"transactionId": "pi_1"}
OWN_REFUND = {"transactionId": "re_1"}


@pytest.mark.parametrize("of_shop", [PLUGINS_REFUND, OWN_REFUND], ids=["by amount", "by id"])
@pytest.mark.parametrize("first", ["shop", "provider"])
async def test_a_refund_that_both_tell_of_counts_once(
    mirror: Mirror, provider: Provider, of_shop: Document, first: str
) -> None:
    with_refund = order(2, by_stripe(refunds=[refund("1", 30000, **of_shop)]))
    await mirror.take(customer_changed("1", 1), order(1, by_stripe()))
    if first == "shop":
        await mirror.take(with_refund)
        assert await spent(mirror) == 700
    await provider.tell(paid("pi_1"), refunded("re_1", "pi_1", "300.00"))
    assert await spent(mirror) == 700
    await mirror.take(with_refund)
    assert await spent(mirror) == 700
    row = await the_row(mirror, "refunds")
    assert (row["vendure_refund_id"], row["stripe_refund_id"], row["disagreement"]) == ("1", "re_1", None)
    assert (await the_row(mirror, "payments"))["amount_refunded"] == 300
    assert (await mirror.order("1"))["refunded_outside"] == 0
    assert await mirror.column(ATTENTION) == []


async def test_a_refund_made_at_the_provider_counts_though_the_shop_does_not_know_it(
    mirror: Mirror, provider: Provider
) -> None:
    await mirror.take(customer_changed("1", 1), order(1, by_stripe(refunds=[refund("1", 30000, **PLUGINS_REFUND)])))
    await provider.tell(paid("pi_1"), refunded("re_1", "pi_1", "300.00"), refunded("re_2", "pi_1", "200.00"))
    assert await spent(mirror) == 500
    assert (await mirror.order("1"))["refunded_outside"] == 200
    assert (await the_row(mirror, "payments"))["amount_refunded"] == 500
    assert await mirror.column("select disagreement from public.refunds where disagreement is not null") == [
        "200.00 LKR refunded at Stripe: the shop does not tell of it"
    ]
    assert await mirror.column(ATTENTION) == ["money disagrees"]


async def test_a_refund_that_failed_gives_nothing_back(mirror: Mirror, provider: Provider) -> None:
    await mirror.take(customer_changed("1", 1), order(1, by_stripe()))
    await provider.tell(paid("pi_1"), refunded("re_1", "pi_1", "300.00"))
    await provider.tell(refunded("re_1", "pi_1", "300.00", 2, status="failed", source_status="failed"))
    assert await spent(mirror) == 1000
    assert (await the_row(mirror, "payments"))["amount_refunded"] == 0


async def test_equal_refunds_are_paired_one_to_one(mirror: Mirror, provider: Provider) -> None:
    two = [refund("1", 10000, **PLUGINS_REFUND), refund("2", 10000, **PLUGINS_REFUND)]
    await mirror.take(customer_changed("1", 1), order(1, by_stripe(refunds=two)))
    await provider.tell(paid("pi_1"), *(refunded(f"re_{n}", "pi_1", "100.00") for n in range(3)))
    assert await spent(mirror) == 700
    pairs = "select source_id, stripe_refund_id from public.refunds order by stripe_refund_id"
    rows = await mirror.connection.fetch(pairs)
    assert [tuple(row) for row in rows] == [("1", "re_0"), ("2", "re_1"), ("re_2", "re_2")]


async def test_what_is_gone_from_the_order_goes_and_the_provider_s_stays(mirror: Mirror, provider: Provider) -> None:
    gone = payment("2", refunds=[refund("1", 5000)])
    history = {"items": [transition("1", "AddingItems", "PaymentSettled", 1)]}
    await mirror.take(order(1, by_stripe(), gone, fulfillments=[fulfillment("1")], history=history))
    await provider.tell(paid("pi_1"))
    await mirror.take(order(2))
    assert await mirror.column("select source_id from public.payments") == ["pi_1"]
    for table in ("refunds", "fulfillments", "order_events"):
        assert await mirror.column(f"select source_id from public.{table}") == []


async def test_of_two_states_of_one_second_the_greater_order_counts(mirror: Mirror, provider: Provider) -> None:
    newer = paid("pi_1", 1, source_order="2")
    older = paid("pi_1", 1, source_order="1", status="pending", source_status="processing")
    for records in ((newer, older), (older,), (newer,)):
        for record in records:
            await provider.tell(record)
        assert (await the_row(mirror, "payments"))["status"] == "paid"
    await provider.tell(deleted("payment", "pi_1", 1))
    await provider.tell(paid("pi_1", 1, source_order="3"))
    assert (await the_row(mirror, "payments"))["deleted_at"] is not None
    await provider.tell(paid("pi_1", 2))
    assert (await the_row(mirror, "payments"))["deleted_at"] is None


async def test_an_equal_state_writes_no_row(mirror: Mirror, provider: Provider) -> None:
    everything: list[Record] = [
        paid("pi_1"),
        refunded("re_1", "pi_1", "5"),
        plan("price_1"),
        subscription("sub_1"),
        invoice("in_1"),
    ]
    await mirror.take(order(1, by_stripe()))
    await provider.tell(*everything)
    tables = ["payments", "refunds", "subscription_plans", "subscriptions", "invoices", "customer_orders_summary"]
    written = " union all ".join(f"select xmin::text from public.{table}" for table in tables)
    before = await mirror.column(written)
    assert await provider.tell(*everything) == '{"customers" : 0, "orders" : 0, "money" : 0}'
    assert await mirror.column(written) == before


async def test_subscriptions_and_invoices_find_their_customers_by_what_the_shop_keeps(
    mirror: Mirror, provider: Provider
) -> None:
    await provider.tell(
        subscription("sub_1", stripe_customer_id="cus_1", plan_source_id="price_1"),
        invoice(
            "in_1", stripe_customer_id="cus_1", subscription_source_id="sub_1", customer_email="customer2@example.com"
        ),
        paid("pi_1", stripe_customer_id="cus_1"),
    )
    await mirror.take(customer_changed("1", 1, customFields={"stripeCustomerId": "cus_1"}), customer_changed("2", 1))
    await provider.tell(plan("price_1"))
    found = (await mirror.customer("1"))["id"]
    for table in ("subscriptions", "invoices", "payments"):
        assert await mirror.column(f"select customer_id from public.{table}") == [found]
    assert (await the_row(mirror, "subscriptions"))["plan_id"] is not None
    assert (await the_row(mirror, "invoices"))["subscription_id"] is not None
    await mirror.take(customer_changed("1", 2))
    assert await mirror.column("select customer_id from public.subscriptions") == [None]


@pytest.mark.parametrize("named", [{"order_code": "CODE1"}, {"order_source_id": "1"}, {"payment_source_id": "pi_1"}])
async def test_an_invoice_finds_its_order(mirror: Mirror, provider: Provider, named: dict[str, Any]) -> None:
    await provider.tell(invoice("in_1", **named))
    await mirror.take(order(1, by_stripe()))
    assert (await the_row(mirror, "invoices"))["order_summary_id"] == (await mirror.order("1"))["id"]


async def test_what_an_admin_changes_in_a_payment_is_noted_and_put_right_by_the_next_state(mirror: Mirror) -> None:
    await mirror.take(order(1, payment("1")))
    await mirror.connection.execute("update public.payments set amount = 1, shop_amount = 1")
    assert await mirror.column("select columns from mirror.hand_edits") == [["amount", "shop_amount"]]
    assert (await mirror.order("1"))["source_hash"] is None
    await mirror.take(order(2, payment("1")))
    assert (await the_row(mirror, "payments"))["amount"] == 1000


async def test_an_order_s_own_history_is_not_changed_by_hand(mirror: Mirror) -> None:
    await mirror.take(order(1, history={"items": [transition("1", "AddingItems", "PaymentSettled", 1)]}))
    with pytest.raises(asyncpg.RestrictViolationError):
        await mirror.connection.execute("delete from public.order_events")


TOLD_BY_SHOP: list[Document] = [
    customer_changed("1", 1),
    customer_changed("1", 5, customFields={"stripeCustomerId": "cus_1"}),
    customer_changed("2", 3, customFields={"stripeCustomerId": "cus_2"}),
    order(1, payment("1", method="stripe", state="Created", transactionId=None)),
    order(2, by_stripe(state="Authorized")),
    order(4, by_stripe(refunds=[refund("1", 30000, **PLUGINS_REFUND, state="Pending")])),
    order(
        6,
        by_stripe(refunds=[refund("1", 30000, **PLUGINS_REFUND), refund("2", 10000, transactionId="re_2")]),
        payment("2", amount=500, method="cash"),
        fulfillments=[fulfillment("1")],
        history={"items": [transition("1", "AddingItems", "PaymentSettled", 1)]},
    ),
    order_changed("2", 3, payments=[by_stripe(transactionId="pi_2"), payment("5", transactionId="pi_2")]),
    order_changed("2", 7, customer={"id": "2"}, payments=[by_stripe(transactionId="pi_3")]),
    order_changed("3", 2, payments=[]),
    order_deleted("3", 8),
]
TOLD_BY_PROVIDER: list[Record] = [
    paid("pi_1", 1, status="authorized", source_status="requires_capture", order_code="CODE1"),
    paid("pi_1", 2, source_order="1", order_code="CODE1"),
    paid("pi_1", 2, source_order="2", order_code="CODE1", amount=Decimal("999.00")),
    paid("pi_2", 3, order_code="CODE2", stripe_customer_id="cus_2"),
    paid("pi_3", 4, order_source_id="2"),
    paid("pi_4", 4, order_code="CODE3"),
    paid("pi_5", 4, stripe_customer_id="cus_1"),
    deleted("payment", "pi_5", 5),
    refunded("re_1", "pi_1", "300.00", 2, status="pending", source_status="pending"),
    refunded("re_1", "pi_1", "300.00", 3),
    refunded("re_2", "pi_1", "100.00", 3),
    refunded("re_3", "pi_2", "50.00", 3),
    refunded("re_4", "pi_unknown", "50.00", 3),
    deleted("refund", "re_2", 9),
    plan("price_1", 2),
    deleted("plan", "price_1", 3),
    subscription("sub_1", 2, stripe_customer_id="cus_1", plan_source_id="price_1"),
    subscription("sub_1", 4, stripe_customer_id="cus_2", plan_source_id="price_1", status="past_due"),
    invoice("in_1", 2, status="open", order_code="CODE1"),
    invoice("in_1", 3, order_code="CODE1", payment_source_id="pi_1"),
    invoice("in_2", 3, subscription_source_id="sub_1", stripe_customer_id="cus_2"),
    invoice("in_3", 3, payment_source_id="pi_3"),
    deleted("invoice", "in_3", 2),
]
EVENTS: list[Event] = [event for document in TOLD_BY_SHOP for event in received(document)]
EMPTY = f"""
    {LET_EMPTY}
    truncate {", ".join(f"public.{table}" for table in TABLES)}, public.order_batch_assignments, mirror.webhook_events,
        mirror.outbox, mirror.sync_conflicts, mirror.provider_payments, mirror.provider_refunds,
        mirror.delivery_stage_counts, mirror.delivery_durations cascade;
"""


async def told(mirror: Mirror, provider: Provider, things: Sequence[Event | Record]) -> Contents:
    """Apply what shop and provider tell, one after the other; return what the tables say in the end, and empty them."""
    for thing in things:
        if isinstance(thing, Event):
            await mirror.accept_read([thing])
            await mirror.drain().run()
        else:
            await provider.tell(thing)
    contents = await read_contents(mirror.connection)
    await mirror.connection.execute(EMPTY)
    return contents


async def test_any_order_and_any_duplicates_of_both_sources_end_in_the_same_tables(
    mirror: Mirror, provider: Provider
) -> None:
    everything: list[Event | Record] = [*EVENTS, *TOLD_BY_PROVIDER]
    expected = await told(mirror, provider, everything)
    assert all(expected[table] for table in TABLES if table != "customer_addresses")
    loop = asyncio.get_running_loop()

    @given(order_of=st.randoms(use_true_random=True), again=st.lists(st.sampled_from(everything), max_size=10))
    @settings(
        max_examples=6,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    def holds(order_of: random.Random, again: list[Event | Record]) -> None:
        things = everything + again
        order_of.shuffle(things)
        found = asyncio.run_coroutine_threadsafe(told(mirror, provider, things), loop).result()
        for table, rows in expected.items():
            assert found[table] == rows, [getattr(thing, "source_id", None) or thing for thing in things]

    await asyncio.to_thread(holds)


async def test_the_money_of_an_order_is_told_and_whether_it_agrees(mirror: Mirror, provider: Provider) -> None:
    refused = by_stripe(transactionId="pi_0", state="Declined", errorMessage="Your card was declined.", id="0")
    await mirror.take(order(1, refused, by_stripe(refunds=[refund("1", 30000, **OWN_REFUND)])))
    await provider.tell(paid("pi_1"), refunded("re_1", "pi_1", "300.00"), invoice("in_1", order_code="CODE1"))
    (told_of,) = parse(await read_money(mirror.database, "CODE1", None))
    assert (told_of.ordered, told_of.paid, told_of.refunded, told_of.invoiced) == (
        "1000.00",
        "1000.00",
        "300.00",
        "1000.00",
    )
    assert told_of.disagreements == []
    console = Console(record=True, width=160)
    print_money(console, told_of)
    text = console.export_text()
    for words in ("Your card was declined.", "vendure, stripe", "re_1", "R-in_1", "It agrees."):
        assert words in text
    await provider.tell(
        paid("pi_1", 2, amount=Decimal("1100.00")), invoice("in_2", total=Decimal(5), order_code="CODE1")
    )
    (told_of,) = parse(await read_money(mirror.database, "CODE1", "default"))
    assert told_of.disagreements == [
        "1000.00 LKR in the shop, 1100.00 LKR at Stripe",
        "invoiced 1005.00 LKR, ordered 1000.00",
    ]
    assert parse(await read_money(mirror.database, "CODE1", "another")) == []


async def test_two_states_in_one_transaction_leave_what_the_newer_tells(mirror: Mirror) -> None:
    async with mirror.connection.transaction():
        for event in (order(1, payment("1"), payment("2")), order(2, payment("2"))):
            (read,) = received(event)
            records = ENGINES["vendure"].map(read.event_type, bytes(read.payload), Context(phone_region="LK"))
            document = newest_records((mirror.integration, record) for record in records)
            await mirror.connection.execute("select mirror.apply_records($1)", document)
    assert await mirror.column("select source_id from public.payments") == ["2"]


async def test_a_payment_that_moves_to_another_order_takes_its_refunds_with_it(
    mirror: Mirror, provider: Provider
) -> None:
    await mirror.take(customer_changed("1", 1), order(1, by_stripe()), order_changed("2", 1))
    await provider.tell(paid("pi_1"), refunded("re_1", "pi_1", "300.00"))
    await mirror.take(order(2), order_changed("2", 2, payments=[by_stripe()]))
    outside = "select refunded_outside from public.customer_orders_summary order by order_code"
    assert await mirror.column(outside) == [0, 300]
    await mirror.take(order_changed("2", 3), order(3, by_stripe()))
    assert await mirror.column(outside) == [300, 0]


@pytest.mark.parametrize("of_shop", [PLUGINS_REFUND, {"transactionId": None}], ids=["named", "unnamed"])
async def test_a_refund_that_the_provider_made_in_parts_counts_once(
    mirror: Mirror, provider: Provider, of_shop: Document
) -> None:
    await mirror.take(customer_changed("1", 1), order(1, by_stripe(refunds=[refund("1", 30000, **of_shop)])))
    await provider.tell(paid("pi_1"), refunded("re_1", "pi_1", "100.00"), refunded("re_2", "pi_1", "200.00"))
    assert await spent(mirror) == 700
    assert (await the_row(mirror, "payments"))["amount_refunded"] == 300
    assert await mirror.column(ATTENTION) == ["money disagrees"]
    await provider.tell(refunded("re_3", "pi_1", "50.00"))
    assert await spent(mirror) == 650
    assert (await the_row(mirror, "payments"))["amount_refunded"] == 350


async def test_a_refund_that_failed_and_was_made_again_counts_once(mirror: Mirror, provider: Provider) -> None:
    of_shop = refund("1", 30000, **OWN_REFUND)
    failed = refunded("re_1", "pi_1", "300.00", status="failed", source_status="failed")
    await mirror.take(customer_changed("1", 1), order(1, by_stripe(refunds=[of_shop])))
    await provider.tell(paid("pi_1"), failed, refunded("re_2", "pi_1", "300.00"))
    assert await spent(mirror) == 700
    assert (await the_row(mirror, "payments"))["amount_refunded"] == 300


@pytest.mark.parametrize("first", ["shop", "provider"])
@pytest.mark.parametrize("charge", ["ch_1", "py_1"])
async def test_a_charge_without_an_intent_meets_the_shop_s_payment(
    mirror: Mirror, provider: Provider, charge: str, first: str
) -> None:
    of_shop = order(1, by_stripe(transactionId=charge))
    if first == "shop":
        await mirror.take(of_shop)
    await provider.tell(paid(charge, stripe_charge_id=charge))
    if first == "provider":
        await mirror.take(of_shop)
    row = await the_row(mirror, "payments")
    assert (row["provider_payment_id"], row["provider_state"]) == (charge, "succeeded")


async def test_an_invoice_keeps_what_it_was_paid_with_though_the_next_event_does_not_say_it(
    mirror: Mirror, provider: Provider
) -> None:
    await mirror.take(order(1, by_stripe()))
    await provider.tell(invoice("in_1", payment_source_id="pi_1"))
    await provider.tell(invoice("in_1", 2, pdf_url="https://pay.example/in_1.pdf"))
    row = await the_row(mirror, "invoices")
    assert (row["payment_source_id"], row["order_summary_id"]) == ("pi_1", (await mirror.order("1"))["id"])


@pytest.mark.parametrize(
    ("payments", "disagreements"),
    [
        ([], []),
        ([payment("1", state="Authorized")], []),
        ([payment("1", amount=40000), payment("2", amount=60000, state="Authorized")], []),
        ([payment("1", amount=40000)], ["paid 400.00 LKR, ordered 1000.00"]),
        ([payment("1"), payment("2")], ["paid 2000.00 LKR, refunded 0.00, ordered 1000.00"]),
        ([payment("1"), payment("2", refunds=[refund("1", 100000)])], []),
    ],
    ids=["unpaid", "authorized", "in two ways", "too little", "twice", "twice and given back"],
)
async def test_whether_what_was_paid_is_what_was_ordered_is_told(
    mirror: Mirror, payments: list[Document], disagreements: list[str]
) -> None:
    await mirror.take(order(1, *payments))
    (told_of,) = parse(await read_money(mirror.database, "CODE1", None))
    assert told_of.disagreements == disagreements


async def test_what_was_refunded_outside_the_shop_is_no_revenue_of_a_batch(mirror: Mirror, provider: Provider) -> None:
    await mirror.take(order(1, by_stripe()))
    await provider.tell(paid("pi_1"), refunded("re_1", "pi_1", "300.00"))
    batch = await mirror.connection.fetchval(
        "insert into public.import_batches (batch_number) values ('B1') returning id"
    )
    await mirror.connection.execute("update public.customer_orders_summary set batch_id = $1", batch)
    revenue = "select (s.revenue ->> 'LKR')::numeric from public.get_batch_statistics($1) as s"
    assert await mirror.connection.fetchval(revenue, batch) == 700


async def test_lines_that_are_cancelled_and_refunded_reduce_the_spend_once(mirror: Mirror) -> None:
    """The shop lowers the order's total by what it cancels, and then gives the money back."""
    spent = "select total_spent from public.customers"
    cancelled = {"totalWithTax": 70000}
    await mirror.take(customer_changed("1", 1), order(1, payment("1")))
    assert await mirror.connection.fetchval(spent) == 1000
    await mirror.take(order(2, payment("1"), **cancelled))
    assert await mirror.connection.fetchval(spent) == 700
    await mirror.take(order(3, payment("1", refunds=[refund("1", 30000)]), **cancelled))
    assert await mirror.connection.fetchval(spent) == 700
    await mirror.take(order(4, payment("1", refunds=[refund("1", 30000), refund("2", 5000)]), **cancelled))
    assert await mirror.connection.fetchval(spent) == 650, "and something on top, out of kindness"
