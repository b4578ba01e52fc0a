"""The simulated Admin API: it answers as Vendure with the plugin does, and each of its faults really happens."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from sync.engines.base import Context
from sync.engines.registry import ENGINES
from sync.engines.vendure.engine import Vendure
from sync.engines.vendure.mapping import content_hash
from sync.errors import Reject
from sync.records import Customer, Deletion, Delivery, Entity, Order, Record
from sync.settings import Credentials
from sync.storm.admin_api import API_KEY, PASSWORD, TOKEN_HEADER, USERNAME
from sync.storm.faults import ApiFaults
from sync.storm.large_shop import BEGAN, ORDERS_PER_CUSTOMER, LargeShop
from sync.storm.server import AdminApiServer
from sync.storm.shop import Shop

SRI_LANKA = Context(phone_region="LK")
KEY = {"vendure-api-key": API_KEY}
COUNT = "query ($entity: MirrorEntity!, $since: DateTime) { mirrorCount(entity: $entity, since: $since) }"
SWEEP = """query ($entity: MirrorEntity!, $position: String) {
    mirrorSweep(entity: $entity, position: $position, limit: 7) { readAt counted fingerprints { id hash } position }
}"""
DOCUMENTS = "query ($entity: MirrorEntity!, $ids: [ID!]!) { mirrorDocuments(entity: $entity, ids: $ids) }"
LOGIN = "mutation ($name: String!, $word: String!) { login(username: $name, password: $word) { __typename } }"


@asynccontextmanager
async def large_shop(orders: int, **faults: float) -> AsyncIterator[tuple[AdminApiServer, httpx.AsyncClient]]:
    """Serve a large shop; give the server and a client with the key."""
    server = AdminApiServer(LargeShop(orders), ApiFaults(**faults))
    running = asyncio.create_task(server.run())
    await server.listening()
    async with httpx.AsyncClient(base_url=server.url, headers=KEY, timeout=10) as client:
        yield server, client
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def ask(client: httpx.AsyncClient, query: str, headers: dict[str, str] | None = None, **given: Any) -> Any:
    response = await client.post("", json={"query": query, "variables": given}, headers=headers)
    return response.raise_for_status().json()


async def sweep(client: httpx.AsyncClient, entity: Entity) -> dict[str, str]:
    """Return id and hash of all entities, page by page."""
    found: dict[str, str] = {}
    position = None
    while True:
        page = (await ask(client, SWEEP, entity=entity.upper(), position=position))["data"]["mirrorSweep"]
        assert page["counted"] == len(page["fingerprints"])
        found |= {fingerprint["id"]: fingerprint["hash"] for fingerprint in page["fingerprints"]}
        position = page["position"]
        if position is None:
            return found


async def fetch(client: httpx.AsyncClient, entity: Entity, ids: list[str]) -> list[Any]:
    return list((await ask(client, DOCUMENTS, entity=entity.upper(), ids=ids))["data"]["mirrorDocuments"])


def mapped(event: Any) -> Record:
    (record,) = Vendure().map(event["type"], json.dumps(event).encode(), SRI_LANKA)
    return record


@pytest.mark.parametrize(("entity", "number"), [("order", 23), ("customer", 5)])
async def test_a_sweep_meets_each_entity_once_in_the_order_of_ids(entity: Entity, number: int) -> None:
    async with large_shop(23) as (_, client):
        found = await sweep(client, entity)
        assert [int(source_id) for source_id in found] == list(range(1, number + 1))
        assert (await ask(client, COUNT, entity=entity.upper()))["data"]["mirrorCount"] == number


async def test_since_counts_what_was_touched_after_it() -> None:
    async with large_shop(23) as (_, client):
        for since, number in ((BEGAN.isoformat(), 23), ("2040-01-01T00:00:00Z", 0)):
            assert (await ask(client, COUNT, entity="ORDER", since=since))["data"]["mirrorCount"] == number


async def test_documents_are_as_hooks_have_them_and_their_hash_is_the_sweeps() -> None:
    async with large_shop(40) as (_, client):
        hashes = await sweep(client, "order")
        orders = [mapped(event) for event in await fetch(client, "order", list(hashes))]
        customers = [mapped(event) for event in await fetch(client, "customer", ["1", "8"])]
    assert all(isinstance(order, Order) and order.total_paid == order.total_with_tax for order in orders)
    assert {order.source_id: order.source_hash for order in orders if isinstance(order, Order)} == {
        source_id: content_hash(found, SRI_LANKA) for source_id, found in hashes.items()
    }
    assert [c.phone_number for c in customers if isinstance(c, Customer)] == ["94770000001", "94770000008"]
    assert {order.customer_source_id for order in orders if isinstance(order, Order)} == {
        str(number) for number in range(1, 40 // ORDERS_PER_CUSTOMER + 1)
    }


async def test_what_the_shop_does_not_have_comes_as_a_deletion() -> None:
    async with large_shop(3) as (_, client):
        (event,) = await fetch(client, "order", ["4"])
    assert isinstance(mapped(event), Deletion)


async def test_more_than_the_plugin_allows_is_refused() -> None:
    async with large_shop(3) as (_, client):
        answer = await ask(client, DOCUMENTS, entity="ORDER", ids=["1"] * 201)
    assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_a_session_lets_in_until_it_ends() -> None:
    async with large_shop(3) as (server, client):
        nobody = {"vendure-api-key": ""}
        assert (await ask(client, COUNT, nobody, entity="ORDER"))["errors"][0]["extensions"]["code"] == "FORBIDDEN"
        login = {"query": LOGIN, "variables": {"name": USERNAME, "word": PASSWORD}}
        token = (await client.post("", json=login, headers=nobody)).headers[TOKEN_HEADER]
        bearer = {**nobody, "authorization": f"Bearer {token}"}
        assert (await ask(client, COUNT, bearer, entity="ORDER"))["data"]["mirrorCount"] == 3
        server.faults = ApiFaults(signed_out=1)
        assert (await ask(client, COUNT, bearer, entity="ORDER"))["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_a_wrong_password_lets_nobody_in() -> None:
    async with large_shop(3) as (_, client):
        answer = await ask(client, LOGIN, {"vendure-api-key": ""}, name=USERNAME, word="guess")
    assert answer["data"]["login"]["__typename"] == "InvalidCredentialsError"


async def test_busy_says_when_to_come_again() -> None:
    async with large_shop(3, busy=1) as (server, client):
        response = await client.post("", json={"query": COUNT})
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert server.thrown["api: busy"] == 1


async def test_unavailable_is_a_503() -> None:
    async with large_shop(3, unavailable=1) as (_, client):
        assert (await client.post("", json={"query": COUNT})).status_code == 503


async def test_a_truncated_answer_is_no_json() -> None:
    async with large_shop(3, truncated=1) as (_, client):
        with pytest.raises(json.JSONDecodeError):
            await ask(client, SWEEP, entity="ORDER")


async def test_a_broken_off_answer_ends_in_the_middle() -> None:
    async with large_shop(3, broken_off=1) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client, SWEEP, entity="ORDER")


async def test_a_dead_server_refuses_and_comes_back_at_the_same_address() -> None:
    async with large_shop(3, deaths_per_minute=60) as (server, client):
        async with asyncio.timeout(20):
            while server.thrown["api: died"] == 0:  # noqa: ASYNC110 - it dies by itself
                await asyncio.sleep(0.01)
            with pytest.raises(httpx.TransportError):
                await ask(client, COUNT, entity="ORDER")
            server.faults = ApiFaults()
            while True:
                with suppress(httpx.TransportError):
                    assert (await ask(client, COUNT, entity="ORDER"))["data"]["mirrorCount"] == 3
                    break
                await asyncio.sleep(0.05)


async def test_a_large_shop_is_served_by_a_process_of_its_own() -> None:
    command = (sys.executable, "-m", "sync.storm.server", "--orders", "1000000")
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    url = (await child.stdout.readline()).decode().split()[-1]
    async with httpx.AsyncClient(base_url=url, headers=KEY) as client:
        (event,) = await fetch(client, "order", ["1000000"])
    child.terminate()
    assert await child.wait() == 0
    assert mapped(event).source_id == "1000000"


HEAVY = {"unavailable": 0.1, "truncated": 0.1, "broken_off": 0.1, "signed_out": 0.1}


@pytest.mark.parametrize("let_in", [{"api_key": API_KEY}, {"username": USERNAME, "password": PASSWORD}])
async def test_the_mirrors_client_reads_all_of_it_through_every_fault(
    let_in: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.engines.vendure.client.rest", lambda _: 0.01)
    async with (
        large_shop(300, **HEAVY) as (server, _),
        ENGINES["vendure"].connect(Credentials(api_url=server.url, **let_in)) as client,
    ):
        ids: list[str] = []
        position: str | None = None
        while len(ids) < await client.count("order"):
            slice_ = await client.sweep("order", position=position, limit=20)
            ids += [fingerprint.source_id for fingerprint in slice_.fingerprints]
            position = slice_.position
        events = await client.fetch("order", ids)
    assert sorted(event.entity_id or "" for event in events) == sorted(ids)
    assert len(set(ids)) == 300
    assert {fault for fault, times in server.thrown.items() if times} >= {f"api: {fault}" for fault in HEAVY}


async def test_the_mirrors_client_sets_a_delivery() -> None:
    shop = Shop(1)
    for _ in range(100):
        shop.step()
    source_id = next(iter(shop.documents["order"]))
    server = AdminApiServer(shop, ApiFaults())
    running = asyncio.create_task(server.run())
    async with ENGINES["vendure"].connect(Credentials(api_url=server.url, api_key=API_KEY)) as client:
        await server.listening()
        await client.set_delivery(source_id, Delivery(stage="ARRIVED", tracking_number="ADM-7"))
        with pytest.raises(Reject, match="could be found"):
            await client.set_delivery("0", Delivery(stage="ARRIVED", tracking_number=None))
        (event,) = await client.fetch("order", [source_id])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (order,) = Vendure().map(event.event_type, bytes(event.payload), SRI_LANKA)
    assert isinstance(order, Order)
    assert (order.delivery_stage, order.tracking_number) == ("ARRIVED", "ADM-7")
