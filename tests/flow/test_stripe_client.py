"""The mirror asks Stripe, list by list, with receipts; what fails for now is tried again, what is refused is said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from tenacity import wait_none

from sync.answers import Source
from sync.backfill import Backfilled, backfill
from sync.database import connect
from sync.engines.base import Client
from sync.engines.registry import ENGINES
from sync.engines.stripe import client as stripe_client
from sync.engines.stripe.api import Clock
from sync.engines.stripe.client import AccountClient
from sync.errors import Reject, Retry
from sync.reconcile import Reconciled, reconcile
from sync.records import Entity
from sync.settings import Address
from sync.sources import find_source
from tests.account import AT, StripeMirror, document, event, known
from tests.provider import CONNECT
from tests.stripe_api import CREDENTIALS, KEY, FakeStripe, asked, error, fill, running

LIVE = {
    "payment": "select source_id from mirror.provider_payments where deleted_at is null order by 1",
    "refund": "select source_id from mirror.provider_refunds where deleted_at is null order by 1",
    "plan": "select source_id from public.subscription_plans where deleted_at is null order by 1",
    "subscription": "select source_id from public.subscriptions where deleted_at is null order by 1",
    "invoice": "select source_id from public.invoices where deleted_at is null order by 1",
}
FOUND = (
    "select f ->> 'source_id', f ->> 'state', f ->> 'cause' from mirror.sync_receipts, jsonb_array_elements(found) f"
)


@pytest.fixture
def api() -> Iterator[FakeStripe]:
    account = FakeStripe()
    with running(account):
        yield account


@pytest.fixture
async def client(api: FakeStripe, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client that does not rest between attempts."""
    monkeypatch.setattr(stripe_client, "rest", wait_none())
    async with ENGINES["stripe"].connect(CREDENTIALS) as opened:
        yield opened


@pytest.fixture
async def account(address: Address, connection: asyncpg.Connection) -> AsyncIterator[StripeMirror]:
    async with connect(address) as door:
        yield await StripeMirror.over(door, connection)


async def source(account: StripeMirror, client: Client) -> Source:
    return await find_source(account.database, "stripe", client)


async def filled(account: StripeMirror, client: Client, **how: Any) -> Backfilled:
    return await backfill(account.database, await source(account, client), **how)


async def compared(account: StripeMirror, client: Client, *, fix: bool = False, **how: Any) -> Reconciled:
    return await reconcile(account.database, await source(account, client), fix=fix, grace=0, **how)


async def live(account: StripeMirror) -> dict[str, list[str]]:
    return {entity: await account.column(query) for entity, query in LIVE.items()}


async def test_a_backfill_reads_every_list_and_leaves_receipts(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api, payments=3)
    done = await filled(account, client)
    assert (done.ending.state, done.ending.reason, done.differing) == ("complete", None, {})
    assert {summary.entity: (summary.counted, summary.seen) for summary in done.summaries} == {
        "plan": (1, 1),
        "subscription": (1, 1),
        "payment": (4, 4),
        "refund": (1, 1),
        "invoice": (1, 1),
    }
    assert await live(account) == {
        "payment": ["ch_old", "pi_0001", "pi_0002", "pi_0003"],
        "refund": ["re_1"],
        "plan": ["price_1"],
        "subscription": ["sub_1"],
        "invoice": ["in_1"],
    }
    assert await account.column("select name from public.subscription_plans") == ["Club"]
    assert await account.column("select payment_source_id from public.invoices") == ["pi_0001"]
    method, paid_at = (
        await account.connection.fetch("select method, paid_at from public.payments where source_id = 'pi_0001'")
    )[0]
    assert (method, paid_at) == ("card", datetime.fromtimestamp(AT + 1, UTC))
    receipts = await account.connection.fetch("select counted, written, is_complete from mirror.sync_receipts")
    assert all(receipt["is_complete"] for receipt in receipts)


async def test_long_lists_are_read_page_by_page_and_fetched_with_no_further_request(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api, payments=250)
    done = await filled(account, client, entities=("payment",))
    assert done.ending.state == "complete"
    assert len((await live(account))["payment"]) == 251
    assert {path for path in asked(api) if "/" in path} == set()
    assert {request.url.params["limit"] for request in api.requests} == {"100"}


async def test_a_reconcile_of_what_hooks_told_finds_nothing(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api, payments=2)
    told = [
        event("payment_intent.succeeded", 5, api.objects["payment_intents"]["pi_0001"]),
        event("payment_intent.succeeded", 5, api.objects["payment_intents"]["pi_0002"]),
        event("charge.succeeded", 5, api.objects["charges"]["ch_old"]),
        event("refund.created", 5, api.objects["refunds"]["re_1"]),
        event("invoice.paid", 5, api.objects["invoices"]["in_1"]),
        event("customer.subscription.deleted", 5, api.objects["subscriptions"]["sub_1"]),
    ]
    account.clients = {"stripe": client}
    await account.take(*told, event("price.created", 5, api.objects["prices"]["price_1"]))
    done = await compared(account, client)
    assert (done.ending.state, done.found) == ("complete", {})


async def test_a_reconcile_finds_what_is_missing_stale_and_gone_and_heals_it(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api, payments=3)
    await filled(account, client)
    api.put("payment_intents", document("payment_intent.created", id="pi_new", created=AT + 60))
    api.objects["refunds"]["re_1"]["status"] = "failed"
    del api.objects["prices"]["price_1"]
    looked = await compared(account, client)
    assert looked.ending.state == "drifted"
    healed = await compared(account, client, fix=True)
    assert healed.ending.state == "complete"
    found = {tuple(row) for row in await account.connection.fetch(FOUND)}
    assert found == {("pi_new", "missing", "unsent"), ("re_1", "stale", "unsent"), ("price_1", "gone", "unsent")}
    assert await account.column("select status::text from mirror.provider_refunds") == ["failed"]
    assert (await live(account))["plan"] == []
    assert (await compared(account, client)).ending.state == "complete"


async def test_what_another_account_of_the_store_has_is_not_gone(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    other = await account.connection.fetchval(CONNECT.replace("'stripe', 'stripe'", "'stripe-uk', 'stripe'"))
    uk = StripeMirror(account.database, account.connection, other)
    await uk.take(event("payment_intent.succeeded", 5, document("payment_intent.succeeded", id="pi_uk")))
    fill(api, payments=1)
    await filled(account, client)
    healed = await compared(account, client, fix=True)
    assert (healed.ending.state, healed.found) == ("complete", {})
    assert (await live(account))["payment"] == ["ch_old", "pi_0001", "pi_uk"]


async def test_a_window_is_what_was_made_in_it(api: FakeStripe, client: Client, account: StripeMirror) -> None:
    fill(api, payments=3)
    await filled(account, client)
    api.objects["payment_intents"]["pi_0001"]["metadata"] = {"orderCode": "OLD"}
    api.objects["payment_intents"]["pi_0003"]["metadata"] = {"orderCode": "NEW"}
    since = datetime.fromtimestamp(AT + 3, UTC)
    await compared(account, client, fix=True, since=since, entities=("payment",))
    codes = await account.column("select order_code from mirror.provider_payments order by source_id")
    assert codes == ["T2KIT", "T2KIT", "T2KIT", "NEW"]


async def test_a_list_that_leaves_something_out_is_not_called_complete(
    api: FakeStripe, client: Client, account: StripeMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(api, payments=3)
    walk = AccountClient._walk

    async def whole(self: AccountClient, *arguments: Any) -> Any:
        api.hidden.clear()
        counted = await walk(self, *arguments)
        api.hidden.add("pi_0002")
        return counted

    monkeypatch.setattr(AccountClient, "_walk", whole)
    done = await filled(account, client, entities=("payment",))
    assert done.ending.state == "incomplete"
    assert done.ending.reason == "the engine counts 4 payments and lists 3"


async def test_what_a_hook_told_meanwhile_is_not_overwritten(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api, payments=1)
    intent = api.objects["payment_intents"]["pi_0001"]
    later = int((api.now + timedelta(hours=1)).timestamp()) - AT
    await account.take(event("payment_intent.canceled", later, {**intent, "status": "canceled"}))
    done = await filled(account, client, entities=("payment",))
    assert done.ending.state == "complete"
    assert await account.column("select status::text from public.payments where source_id = 'pi_0001'") == ["cancelled"]


async def test_a_page_goes_on_where_its_last_object_was_deleted_meanwhile(api: FakeStripe, client: Client) -> None:
    for number in range(1, 121):
        api.put("invoices", document("invoice.created", id=f"in_{number:04}", created=AT + number))
    first = await client.sweep("invoice")
    del api.objects["invoices"]["in_0021"]
    second = await client.sweep("invoice", position=first.position)
    assert [print.source_id for print in first.fingerprints[-2:]] == ["in_0022", "in_0021"]
    assert [print.source_id for print in second.fingerprints] == [f"in_{number:04}" for number in range(20, 0, -1)]
    assert second.position is None


async def test_a_count_is_gone_on_with_and_an_account_that_was_emptied_is_counted_anew(
    api: FakeStripe, client: Client
) -> None:
    fill(api, payments=250)
    assert await client.count("payment") == 251
    pages = len(api.requests)
    api.put("payment_intents", document("payment_intent.created", id="pi_new", created=AT + 900))
    assert await client.count("payment") == 252
    assert len(api.requests) - pages == 2
    api.objects["payment_intents"].clear()
    api.objects["charges"].clear()
    assert await client.count("payment") == 0


def limited(request: httpx.Request) -> httpx.Response:
    return error(429, {"stripe-rate-limited-reason": "global-rate"}, code="rate_limit", type="invalid_request_error")


async def test_what_passes_is_tried_again(api: FakeStripe, client: Client) -> None:
    fill(api)
    api.faults = [
        limited,
        lambda _: error(500, type="api_error"),
        lambda _: httpx.ConnectError("no route"),
        lambda _: httpx.ReadTimeout("slow"),
        lambda _: httpx.Response(502, text="<html>bad gateway</html>"),
        lambda _: httpx.Response(200, text='{"object": "list", "da'),
    ]
    assert await client.count("refund") == 1
    assert len(api.requests) == 7


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (limited, Retry, "Stripe has enough for now (global-rate)."),
        (lambda _: error(503, {"stripe-should-retry": "false"}, type="api_error"), Retry, "failed to answer (503)"),
        (lambda _: error(401, message=f"Invalid API Key provided: {KEY}"), Reject, "does not accept the API key"),
        (lambda _: error(403, type="invalid_request_error"), Reject, "needs read access to PaymentIntents"),
        (lambda _: error(400, message="Received unknown parameter: x"), Reject, "Received unknown parameter: x"),
    ],
    ids=["429", "503", "401", "403", "400"],
)
async def test_what_does_not_pass_is_said(
    api: FakeStripe, client: AccountClient, fault: Any, kind: type[Exception], words: str
) -> None:
    client._patience_seconds = 0.05
    api.faults = [fault] * 10_000
    with pytest.raises(kind) as caught:
        await client.count("refund")
    assert words in str(caught.value)
    assert KEY not in str(caught.value)


async def test_what_a_thin_event_names_is_fetched_once_and_applied(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api)
    account.clients = {"stripe": client}
    thin = known("v1.payment_intent.succeeded")["event"]
    related = {"id": "pi_0002", "type": "payment_intent", "url": "/v1/payment_intents/pi_0002"}
    counts = await account.take(*({**thin, "id": f"evt_{n}", "related_object": related} for n in range(3)))
    assert counts.applied == 3
    assert asked(api) == ["payment_intents/pi_0002"]
    assert await account.column("select source_id || ' ' || status from public.payments") == ["pi_0002 paid"]


async def test_what_a_thin_event_names_and_is_gone_becomes_a_tombstone(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    account.clients = {"stripe": client}
    thin = known("v1.invoice.paid")["event"]
    assert (await account.take(thin)).applied == 1
    assert await account.column("select deleted_at is not null from public.invoices") == [True]


async def test_while_stripe_is_away_what_is_named_waits_and_the_rest_goes_on(
    api: FakeStripe, client: AccountClient, account: StripeMirror
) -> None:
    fill(api)
    client._patience_seconds = 0.05
    account.clients = {"stripe": client}
    api.faults = [lambda _: httpx.ConnectError("no route")] * 10_000
    thin = known("v1.payment_intent.succeeded")["event"]
    counts = await account.take(thin, known("refund.created")["event"])
    assert (counts.applied, counts.retried) == (1, 1)
    assert sorted(filter(None, await account.events("reason"))) == ["Stripe cannot be reached."]


async def test_a_product_s_new_name_is_that_of_its_plans(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api)
    await filled(account, client, entities=("plan",))
    api.objects["products"]["prod_1"]["name"] = "Supporters"
    account.clients = {"stripe": client}
    await account.take(event("product.updated", 9000, api.objects["products"]["prod_1"], {"name": "Club"}))
    assert await account.column("select name from public.subscription_plans") == ["Supporters"]


async def test_what_an_invoice_was_paid_with_is_asked_for(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api)
    account.clients = {"stripe": client}
    paid = document("invoice_payment.paid", invoice="in_1")
    await account.take(
        event("invoice.paid", 5, api.objects["invoices"]["in_1"]), event("invoice_payment.paid", 5, paid)
    )
    assert await account.column("select payment_source_id from public.invoices") == ["pi_0001"]


async def test_of_two_changes_in_one_second_that_nothing_orders_what_stands_at_stripe_counts(
    api: FakeStripe, client: Client, account: StripeMirror
) -> None:
    fill(api)
    account.clients = {"stripe": client}
    now = document("customer.subscription.updated", id="sub_1", cancel_at_period_end=False)
    api.put("subscriptions", now)
    meant = {**now, "cancel_at_period_end": True}
    there = event("customer.subscription.updated", 5, meant, {"cancel_at_period_end": False})
    back = event("customer.subscription.updated", 5, now, {"cancel_at_period_end": True})
    for order in ([there, back], [back, there]):
        await account.take(*({**each, "id": f"{each['id']}{len(order)}{index}"} for index, each in enumerate(order)))
        assert await account.column("select cancel_at_period_end from public.subscriptions") == [False]


@pytest.mark.parametrize("quantity", range(2, 6))
async def test_what_is_read_in_the_second_of_its_event_is_newer_than_what_else_was_told_of_that_second(
    api: FakeStripe, client: Client, account: StripeMirror, quantity: int
) -> None:
    account.clients = {"stripe": client}
    was = document("customer.subscription.updated", id="sub_1")
    items = {"data": [{**was["items"]["data"][0], "quantity": quantity}]}
    api.put("subscriptions", {**was, "items": items})
    await account.take(event("customer.subscription.created", 5, was))
    api.now = datetime.fromtimestamp(AT + 4, UTC)  # it answers within that second, too
    await account.take(event("customer.subscription.updated", 5, {**was, "items": items}, {"items": was["items"]}))
    assert await account.column("select quantity from public.subscriptions") == [quantity]


@pytest.mark.parametrize("charge", ["ch_old", "py_old"])
async def test_a_charge_without_an_intent_that_a_thin_event_names_is_fetched(
    api: FakeStripe, client: Client, account: StripeMirror, charge: str
) -> None:
    account.clients = {"stripe": client}
    api.put("charges", document("charge.succeeded", id=charge))
    thin = {**known("v1.payment_intent.succeeded")["event"], "type": "v1.charge.succeeded"}
    await account.take({**thin, "related_object": {"id": charge, "type": "charge", "url": f"/v1/charges/{charge}"}})
    payments = "select source_id || ' ' || status from public.payments where deleted_at is null"
    assert await account.column(payments) == [f"{charge} paid"]


@pytest.mark.parametrize(("is_live", "state"), [(True, "skipped"), (False, "applied")])
async def test_the_key_says_which_mode_is_mirrored(
    api: FakeStripe, client: Client, account: StripeMirror, is_live: bool, state: str
) -> None:
    account.clients = {"stripe": client}
    await account.take({**known("refund.created")["event"], "livemode": is_live})
    assert await account.events("state") == [state]


async def test_the_integration_may_say_which_mode_is_mirrored(account: StripeMirror) -> None:
    await account.connection.execute("update mirror.integrations set is_test = false where slug = 'stripe'")
    await account.take(known("refund.created")["event"])
    (reason,) = await account.events("reason")
    assert reason == "of Stripe's test mode, and live mode is mirrored: see is_test in mirror.integrations"


async def test_what_stripe_does_not_have_cannot_be_asked_for(client: Client, account: StripeMirror) -> None:
    entities: tuple[Entity, ...] = ("order",)
    with pytest.raises(Reject, match="stripe has nothing of the kind order; what it has is plan, subscription"):
        await filled(account, client, entities=entities)


def test_of_two_readings_within_a_second_the_later_is_the_newer_however_long_it_took() -> None:
    """Answers show whole seconds: 10:00:05 both times. The first took 0.1 seconds, the second 0.5."""
    clock, shown = Clock(), datetime.fromtimestamp(AT + 5, UTC)
    first, second = clock.at(100.1, 100.2, shown), clock.at(100.4, 100.9, shown)
    assert first < second <= shown + timedelta(seconds=0.4)
    later = clock.at(400.0, 400.5, shown + timedelta(seconds=300))
    assert timedelta(seconds=299) < later - first < timedelta(seconds=300.4)
