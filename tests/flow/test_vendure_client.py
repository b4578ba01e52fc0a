"""The mirror asks a shop over real HTTP; the shop is slow, busy, cut off, or refuses."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from sync.engines.base import Context
from sync.engines.registry import ENGINES
from sync.engines.vendure.admin_api import AdminApi
from sync.engines.vendure.client import VendureClient
from sync.engines.vendure.mapping import map_event
from sync.errors import Reject, Retry
from sync.records import Customer, Deletion, Delivery
from sync.settings import Credentials
from tests.admin_api import API_KEY, FakeAdminApi, Fault, Reply, cut_off, data, error, half_of_the_json, slow, status
from tests.factory import START, customer_document, order_document
from tests.hooks import change

SRI_LANKA = Context(phone_region="LK")


@pytest.fixture
def api() -> Iterator[FakeAdminApi]:
    with FakeAdminApi() as running:
        yield running


@pytest.fixture
async def client(api: FakeAdminApi) -> AsyncIterator[VendureClient]:
    """A client that waits two seconds for an answer."""
    async with httpx.AsyncClient(timeout=60) as http:
        yield VendureClient(AdminApi(http, api.user(), seconds=2), patience_seconds=30)


def fill(api: FakeAdminApi, customers: int = 0, orders: int = 0) -> None:
    for number in range(customers):
        api.shop.put("customer", customer_document(f"{number:04}"))
    for number in range(orders):
        api.shop.put("order", order_document(f"{number:04}"))


def ids(count: int) -> list[str]:
    return [f"{number:04}" for number in range(count)]


async def test_a_shop_is_opened_by_its_credentials(api: FakeAdminApi) -> None:
    fill(api, customers=3, orders=2)
    async with ENGINES["vendure"].connect(api.user()) as client:
        assert (await client.count("customer"), await client.count("order")) == (3, 2)
    assert api.logins == 1


async def test_a_key_needs_no_login(api: FakeAdminApi) -> None:
    fill(api, customers=3)
    async with ENGINES["vendure"].connect(Credentials(api_url=api.url, api_key=API_KEY)) as client:
        assert await client.count("customer") == 3
    assert api.logins == 0


async def test_only_what_is_new_is_counted_and_swept(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, customers=3)
    new = START + timedelta(days=1)
    api.shop.put("customer", customer_document("new", createdAt=new.isoformat()))
    assert await client.count("customer", since=new) == 1
    assert [one.source_id for one in (await client.sweep("customer", since=new)).fingerprints] == ["new"]


async def test_a_sweep_goes_from_slice_to_slice_until_the_end(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, orders=25)
    found: list[str] = []
    position = None
    while True:
        sweep = await client.sweep("order", position=position, limit=10)
        assert sweep.counted == len(sweep.fingerprints)
        assert sweep.read_at.tzinfo is not None
        found += [one.source_id for one in sweep.fingerprints]
        position = sweep.position
        if position is None:
            break
    assert found == ids(25)


async def test_a_fingerprint_is_the_hash_of_the_record_that_the_document_becomes(
    api: FakeAdminApi, client: VendureClient
) -> None:
    fill(api, customers=1)
    (fingerprint,) = (await client.sweep("customer")).fingerprints
    (event,) = await client.fetch("customer", ["0000"])
    (record,) = map_event(event.event_type, event.payload, SRI_LANKA)
    assert isinstance(record, Customer)
    assert record.source_hash == ENGINES["vendure"].source_hash(fingerprint.hash, SRI_LANKA)


async def test_what_the_shop_no_longer_has_comes_as_a_deletion(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, customers=1)
    events = {event.entity_id: event for event in await client.fetch("customer", ["0000", "gone"])}
    assert events.keys() == {"0000", "gone"}
    (record,) = map_event(events["gone"].event_type, events["gone"].payload, SRI_LANKA)
    assert isinstance(record, Deletion)


async def test_many_are_fetched_in_several_pages_side_by_side(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, orders=450)
    api.always = slow(0.05)
    events = await client.fetch("order", ids(450))
    assert sorted(str(event.entity_id) for event in events) == ids(450)
    assert 1 < api.most_in_flight <= 4


async def test_each_is_fetched_once_however_often_it_is_named(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, orders=2)
    assert len(await client.fetch("order", ["0001", "0000", "0001"])) == 2
    assert await client.fetch("order", []) == []


async def test_pages_grow_while_answers_are_quick(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, orders=500)
    for _ in range(4):
        await client.fetch("order", ids(500))
    sizes = [len(question["ids"]) for question in api.questions]
    assert sizes[0] < max(sizes) == 200


@pytest.mark.parametrize(
    "complaint", [status(413), status(502), cut_off, half_of_the_json], ids=["413", "502", "cut off", "half"]
)
async def test_pages_shrink_until_the_shop_can_give_them(
    api: FakeAdminApi, client: VendureClient, complaint: Fault
) -> None:
    fill(api, orders=60)
    api.always = lambda variables: complaint(variables) if len(variables["ids"]) > 20 else None
    assert len(await client.fetch("order", ids(60))) == 60
    assert len(api.questions[-1]["ids"]) <= 20


async def test_a_page_that_takes_too_long_is_asked_for_in_smaller_ones(
    api: FakeAdminApi, client: VendureClient
) -> None:
    fill(api, orders=40)

    def fault(variables: dict[str, Any]) -> None:
        time.sleep(2.5 if len(variables["ids"]) > 20 else 0)

    api.always = fault
    assert len(await client.fetch("order", ids(40))) == 40


async def test_a_slice_of_a_sweep_shrinks_as_a_page_does(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, orders=600)
    api.always = lambda variables: Reply(504, b"") if variables["limit"] > 300 else None
    sweep = await client.sweep("order", limit=1000)
    assert 0 < len(sweep.fingerprints) <= 300
    assert sweep.position is not None


async def test_retry_after_is_honoured_in_seconds(api: FakeAdminApi, client: VendureClient) -> None:
    api.faults.append(status(429, retry_after="1"))
    started = time.monotonic()
    assert await client.count("order") == 0
    assert time.monotonic() - started >= 1


async def test_retry_after_is_honoured_as_a_date(api: FakeAdminApi, client: VendureClient) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    api.faults.append(status(503, retry_after=date))
    started = time.monotonic()
    assert await client.count("order") == 0
    assert time.monotonic() - started >= 0.5


async def test_a_retry_after_beyond_patience_is_passed_on_at_once(api: FakeAdminApi, client: VendureClient) -> None:
    api.faults.append(status(429, retry_after="3600"))
    with pytest.raises(Retry, match="429") as caught:
        await client.count("order")
    assert caught.value.after == 3600
    assert len(api.questions) == 1


async def test_a_busy_shop_is_asked_in_fewer_lanes(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, orders=400)
    api.faults += [status(429, retry_after="0")] * 4
    await client.fetch("order", ids(400))
    api.most_in_flight = 0
    api.always = slow(0.02)
    assert len(await client.fetch("order", ids(400))) == 400
    assert api.most_in_flight == 1


@pytest.mark.parametrize(
    "fault",
    [status(500), status(503), cut_off, lambda _: error("deadlock detected", "INTERNAL_SERVER_ERROR")],
    ids=["500", "503", "cut off", "internal error"],
)
async def test_a_fault_that_passes_is_not_noticed(api: FakeAdminApi, client: VendureClient, fault: Fault) -> None:
    fill(api, customers=2)
    api.faults += [fault, fault]
    assert await client.count("customer") == 2


async def test_a_fault_that_stays_is_to_be_retried_later(api: FakeAdminApi) -> None:
    api.always = status(502)
    async with httpx.AsyncClient(timeout=60) as http:
        client = VendureClient(AdminApi(http, api.user()), patience_seconds=1)
        with pytest.raises(Retry, match="502"):
            await client.count("customer")
    assert len(api.questions) > 1


async def test_a_shop_that_hangs_is_to_be_retried_later(api: FakeAdminApi) -> None:
    api.always = slow(1)
    async with httpx.AsyncClient(timeout=60) as http:
        client = VendureClient(AdminApi(http, api.user(), seconds=0.1), patience_seconds=0.5)
        with pytest.raises(Retry, match="did not answer within"):
            await client.fetch("order", ids(3))


async def test_a_shop_that_is_away_is_to_be_retried_later(api: FakeAdminApi) -> None:
    credentials = Credentials(api_url="http://127.0.0.1:9/admin-api", username="mirror", password="x")
    async with httpx.AsyncClient(timeout=60) as http:
        client = VendureClient(AdminApi(http, credentials, seconds=1), patience_seconds=0.5)
        with pytest.raises(Retry, match="cannot be reached"):
            await client.count("order")


async def test_that_a_shop_is_waited_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.engines.vendure.client.rest", lambda _: 0.01)
    credentials = Credentials(api_url="http://127.0.0.1:9/admin-api", username="mirror", password="x")
    async with httpx.AsyncClient(timeout=60) as http:
        with capture_logs() as logs, pytest.raises(Retry):
            await VendureClient(AdminApi(http, credentials, seconds=1), patience_seconds=0.5).count("order")
    assert {entry["event"] for entry in logs} == {"engine.tried_again"}
    assert "The shop cannot be reached" in logs[0]["reason"]


async def test_a_session_that_has_ended_is_renewed_once_for_all_lanes(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, orders=300)
    await client.count("order")
    api.end_sessions()
    assert len(await client.fetch("order", ids(300))) == 300
    assert api.logins == 2


async def test_a_wrong_password_is_refused_with_the_reason(api: FakeAdminApi) -> None:
    async with ENGINES["vendure"].connect(api.user(password="wrong")) as client:
        with pytest.raises(Reject, match="username and password") as caught:
            await client.count("order")
    assert "wrong" not in caught.value.reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error("You are not currently authorized to perform this action", "FORBIDDEN"), "ReadCustomer, ReadOrder and"),
        (Reply(401, b"{}"), "ReadCustomer, ReadOrder and"),
        (
            error('Cannot query field "mirrorCount" on type "Query".', "GRAPHQL_VALIDATION_FAILED", 400),
            "Update the CustomerSync plugin",
        ),
        (error("position: no such position", "USER_INPUT_ERROR"), "no such position"),
        (data(mirrorCount="many"), "Update the CustomerSync plugin"),
        (Reply(404, b"not here"), "Is the address right"),
        (Reply(301, b"", {"location": "https://elsewhere.example"}), "Is the address right"),
        (Reply(200, b"<html>", {"content-type": "text/html"}), "Is the address right"),
    ],
)
async def test_a_refusal_says_what_to_do_and_is_not_tried_again(
    api: FakeAdminApi, client: VendureClient, answer: Reply, reason: str
) -> None:
    api.always = lambda _: answer
    with pytest.raises(Reject, match=reason):
        await client.count("order")
    assert len(api.questions) <= 2


async def test_characters_that_postgres_cannot_hold_are_replaced_as_in_hooks(
    api: FakeAdminApi, client: VendureClient
) -> None:
    document = customer_document("1", lastName="Pere\x00ra \ud800")
    api.always = lambda _: data(mirrorDocuments=[change("1", type="customer.changed", entityId="1", data=document)])
    (event,) = await client.fetch("customer", ["1"])
    assert msgspec.json.decode(event.payload)["data"]["lastName"] == "Pere\ufffdra \ufffd"


async def test_a_delivery_is_set_in_the_shop(api: FakeAdminApi, client: VendureClient) -> None:
    fill(api, orders=1)
    await client.set_delivery("0000", Delivery(stage="DISPATCHED", tracking_number="SLP-1"))
    fields = api.shop.documents["order"]["0000"]["customFields"]
    assert (fields["deliveryStage"], fields["trackingNumber"]) == ("DISPATCHED", "SLP-1")


@pytest.mark.parametrize(("answered", "after"), [(500, None), (429, 1.0)])
async def test_a_delivery_is_sent_once(
    api: FakeAdminApi, client: VendureClient, answered: int, after: float | None
) -> None:
    fill(api, orders=1)
    await client.count("order")  # logged in
    api.faults += [status(answered)] * 2
    with pytest.raises(Retry, match=str(answered)) as caught:
        await client.set_delivery("0000", Delivery(stage="DISPATCHED", tracking_number="SLP-1"))
    assert (caught.value.after, len(api.faults)) == (after, 1)


async def test_a_delivery_of_an_order_that_is_gone_is_refused(api: FakeAdminApi, client: VendureClient) -> None:
    with pytest.raises(Reject, match="No Order with the id"):
        await client.set_delivery("gone", Delivery(stage="DISPATCHED", tracking_number=None))
