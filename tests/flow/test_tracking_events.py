"""`GET /orders/{code}/events`: whoever watches an order hears of its changes, and costs nothing once they are gone."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest

from api.tracking import streams, watch
from sync.links import Links
from sync.settings import Address
from tests.database.shop import pre_order
from tests.factory import order_changed, order_deleted
from tests.flow.proxy import Proxy
from tests.flow.serving import process, serving, until
from tests.flow.watching import ADDRESS, EVENTS, PHONE, set_stage, watching
from tests.mirror import Mirror
from tests.rest.gateway import postgres_only

LINK_SECRET = "whsec_" + "s" * 44


@pytest.fixture(autouse=True)
def edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_LINK_SECRET", LINK_SECRET)


@pytest.fixture(autouse=True)
async def shop(database: str, connection: asyncpg.Connection, mirror: Mirror) -> None:
    """Two orders of one batch."""
    for number in ("1", "2"):
        lines = [pre_order(f"{number}-1")]
        await mirror.take(order_changed(number, 1, shippingAddress=ADDRESS, lines=lines))


# What is told


@pytest.mark.parametrize("through", ["postgres", "rest"])
async def test_a_watcher_hears_of_each_change(address: Address, secrets: None, connection: asyncpg.Connection) -> None:
    async with serving(address, poll_seconds=0.3) as api, watching(api) as events:
        assert events.answer.headers["content-type"] == "text/event-stream"
        assert events.answer.headers["cache-control"] == "no-store"
        first = await events.next()
        assert first["data"] == (await api.get("/orders/CODE1", params={"phone": PHONE})).json()
        assert first["id"] == first["data"]["version"]
        assert events.retry is not None
        assert 2000 <= events.retry <= 6000
        for stage in ("SOURCING", "ARRIVED", "DISPATCHED"):
            await set_stage(connection, stage)
            assert await events.stage() == stage


async def test_a_change_is_told_at_once(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    async with watching(api) as events:
        await events.next()
        await asyncio.sleep(1)  # it listens by now
        started = time.monotonic()
        await set_stage(connection, "ARRIVED")
        assert await events.stage() == "ARRIVED"
        assert time.monotonic() - started < 1.5


async def test_who_comes_back_hears_only_what_is_new(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    async with watching(api) as events:
        version = (await events.next())["id"]
    async with watching(api, headers={"Last-Event-ID": version}) as events:
        with pytest.raises(TimeoutError):
            await events.next(1)
    async with watching(api, headers={"Last-Event-ID": version}) as events:
        await set_stage(connection, "SOURCING")
        assert await events.stage() == "SOURCING"
    await set_stage(connection, "ARRIVED")
    async with watching(api, headers={"Last-Event-ID": version}) as events:
        assert await events.stage() == "ARRIVED"


async def test_progress_of_the_batch_is_told(api: httpx.AsyncClient, mirror: Mirror) -> None:
    async with watching(api) as events:
        assert (await events.next())["data"]["batch"]["orders"] == 2
        await mirror.take(order_changed("3", 1, lines=[pre_order("3-1")]))
        assert (await events.next())["data"]["batch"]["orders"] == 3


async def test_a_parcels_number_and_a_cancellation_are_told(
    api: httpx.AsyncClient, mirror: Mirror, connection: asyncpg.Connection
) -> None:
    async with watching(api) as events:
        await events.next()
        await set_stage(connection, "DISPATCHED")
        await events.next()
        await connection.execute(
            "update public.order_delivery_status set tracking_number = 'T1' where order_code = 'CODE1'"
        )
        assert (await events.next())["data"]["tracking_number"] == "T1"
        await mirror.take(order_changed("1", 9, state="Cancelled", shippingAddress=ADDRESS))
        assert (await events.next())["data"]["cancelled_at"] is not None


async def test_by_link_a_stream_tells_as_little_as_the_order_does(
    api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    link = Links([LINK_SECRET]).make("default", "CODE1", seconds=3600)
    async with watching(api, params={"t": link}) as events:
        assert (await events.next())["data"]["total_with_tax"] is None
        await set_stage(connection, "SOURCING")
        changed = (await events.next())["data"]
        assert (changed["stage"], changed["total_with_tax"]) == ("SOURCING", None)


# When it ends


async def test_a_stream_needs_the_same_proofs_as_the_order(api: httpx.AsyncClient) -> None:
    for code, parameters, status in [
        ("CODE1", {"phone": "94770000000"}, 404), ("NOSUCH", {"phone": PHONE}, 404), ("CODE1", {}, 400),
        ("CODE1", {"t": "x"}, 404),
    ]:  # fmt: skip
        answer = await api.get(f"/orders/{code}/events", params=parameters)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    answer = await api.get(EVENTS, headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()["code"]) == (401, "bad-token")


async def test_a_stream_ends_with_its_link(api: httpx.AsyncClient) -> None:
    link = Links([LINK_SECRET]).make("default", "CODE1", seconds=3)
    async with watching(api, params={"t": link}) as events:
        await events.next()
        await events.ends()
    assert (await api.get(EVENTS, params={"t": link})).json()["code"] == "link-expired"


async def test_a_stream_ends_with_its_order(api: httpx.AsyncClient, mirror: Mirror) -> None:
    async with watching(api) as events:
        await events.next()
        await mirror.take(order_deleted("1", 9))
        await events.ends()
    assert (await api.get(EVENTS, params={"phone": PHONE})).status_code == 404


async def test_no_stream_lasts_for_ever(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LIFE_SECONDS", 1.0)
    async with watching(api) as events:
        await events.next()
        await events.ends(5)


async def test_a_stream_that_is_silent_shows_that_it_lives(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.1)
    async with watching(api) as events:
        await events.next()
        with pytest.raises(TimeoutError):
            await events.next(1)
        assert events.heartbeats >= 5


async def test_a_process_that_stops_ends_its_streams_in_order(database: str) -> None:
    async with process(database) as (child, api), AsyncExitStack() as opened:
        all_events = [await opened.enter_async_context(watching(api)) for _ in range(5)]
        for events in all_events:
            await events.next()
        started = time.monotonic()
        child.send_signal(signal.SIGTERM)
        for events in all_events:
            await events.ends()  # to its proper end: httpx would say if it were cut off
        await child.wait()
        assert time.monotonic() - started < 8


# What it costs


async def test_a_head_opens_no_stream(database: str, secrets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_STREAMS_PER_CLIENT", "1")
    async with serving(database) as api:
        answer = await api.head(EVENTS, params={"phone": PHONE}, timeout=5)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        await until(lambda: _is_let_in(api, {}))


async def test_so_many_streams_for_an_address_and_each_is_given_back(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_STREAMS_PER_CLIENT", "2")
    monkeypatch.setenv("MIRROR_TRUSTED_PROXIES", "127.0.0.1")
    mine, others = {"X-Forwarded-For": "203.0.113.1"}, {"X-Forwarded-For": "203.0.113.2"}
    async with serving(database) as api:
        async with watching(api, headers=mine), watching(api, headers=mine) as second:
            await second.next()
            refused = await api.get(EVENTS, params={"phone": PHONE}, headers=mine)
            assert (refused.status_code, refused.json()["code"]) == (429, "too-many-streams")
            assert refused.headers["retry-after"] == "30"
            async with watching(api, headers=others) as third:
                await third.next()
            assert (await api.get("/orders/CODE1", params={"phone": PHONE}, headers=mine)).status_code == 200

        for _ in range(10):
            await until(lambda: _is_let_in(api, mine))


async def _is_let_in(api: httpx.AsyncClient, headers: dict[str, str]) -> bool:
    async with api.stream("GET", EVENTS, params={"phone": PHONE}, headers=headers) as answer:
        return answer.status_code == 200


async def test_so_many_streams_in_all(database: str, secrets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_STREAMS", "1")
    async with serving(database) as api, watching(api) as events:
        await events.next()
        assert (await api.get("/orders/CODE2/events", params={"phone": PHONE})).status_code == 429


@postgres_only
async def test_one_connection_listens_for_all(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    async def listening() -> int:
        found: int = await connection.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'"
        )
        return found

    assert await listening() == 0
    async with AsyncExitStack() as opened:
        for events in [await opened.enter_async_context(watching(api)) for _ in range(10)]:
            await events.next()

        async def is_one() -> bool:
            return await listening() == 1

        await until(is_one)


@postgres_only
async def test_who_is_slow_gets_the_latest_state_and_keeps_nothing_waiting(
    api: httpx.AsyncClient, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own pushing back stands in for a client that does not read: both let `send` wait."""
    reads = asyncio.Event()
    sent: list[bytes] = []
    send = streams.Stream._tell

    async def slowly(self: streams.Stream, watcher: watch.Watcher, write: Any) -> None:
        async def held(message: Any) -> None:
            sent.append(message["body"])
            await reads.wait()
            await write(message)

        await send(self, watcher, held)

    monkeypatch.setattr(streams.Stream, "_tell", slowly)
    monkeypatch.setattr(watch, "PAUSE_SECONDS", 0)
    async with watching(api) as events:
        for number in range(100):
            await connection.execute("update public.order_delivery_status set eta = current_date + $1::int", number)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.5)
        assert len(sent) == 1
        reads.set()
        await events.next()
        assert (await events.next())["data"]["eta"] == str(
            await connection.fetchval("select max(eta) from public.order_delivery_status")
        )
    assert len([body for body in sent if body.startswith(b"id:")]) == 1


async def test_new_orders_and_what_is_not_told_send_no_notification(
    connection: asyncpg.Connection, mirror: Mirror
) -> None:
    heard: list[str] = []
    await connection.add_listener(watch.CHANNEL, lambda *told: heard.append(str(told[-1])))
    await mirror.take(*(order_changed(f"n{number}", 1) for number in range(20)))
    await mirror.take(*(order_changed(f"n{number}", 2, state="PaymentAuthorized") for number in range(20)))
    await connection.execute("update public.order_delivery_status set note = 'x'")
    assert heard == []
    await mirror.take(order_changed("n1", 3, totalWithTax=200000))
    await connection.fetchval("select 1")
    assert set(heard) == {str((await mirror.order("n1"))["id"])}


# When the database is away


async def test_a_stream_outlives_the_database(
    network: Proxy, secrets: None, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "RETRY_SECONDS", 0.2)
    async with serving(network.dsn) as api, watching(api) as events:
        await events.next()
        network.cut()
        await set_stage(connection, "SOURCING")
        await asyncio.sleep(0.5)
        network.mend()
        assert await events.stage() == "SOURCING"
        await set_stage(connection, "ARRIVED")
        assert await events.stage() == "ARRIVED"


async def test_a_change_is_seen_although_no_notification_comes_any_more(
    network: Proxy, secrets: None, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SWEEP_SECONDS", 0.5)
    async with serving(network.dsn) as api, watching(api) as events:
        await events.next()
        await asyncio.sleep(1)
        network.strand()
        await set_stage(connection, "SOURCING")
        assert await events.stage() == "SOURCING"
