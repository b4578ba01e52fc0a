"""`GET /orders/{code}`: what customers see of orders that a real shop sent, and what those see who guess."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from sync import inbox
from sync.database import connect
from sync.drain import Drain
from sync.engines.vendure import payloads
from tests.flow.proxy import Proxy
from tests.flow.serving import process, serving
from tests.rest.gateway import both_doors

RECORDED = Path(__file__).parent.parent / "recorded" / "vendure" / "hooks.jsonl"
STAGES = ["ORDER_CONFIRMED", "SOURCING", "ARRIVED", "DISPATCHED", "DELIVERED"]


@pytest.fixture
async def orders(database: str, connection: asyncpg.Connection) -> list[asyncpg.Record]:
    """The orders of the recorded shop, in the tables, as far as they have a Sri Lankan phone."""
    integration = await connection.fetchval("select id from mirror.integrations")
    hooks = [json.loads(line)["body"].encode() for line in RECORDED.read_bytes().splitlines()]
    async with connect(database) as door:
        await inbox.accept(door, [(integration, event) for hook in hooks for event in payloads.read(hook)])
        await Drain(door).run()
    return await connection.fetch(
        "select o.order_code, o.contact_phone, o.total_with_tax, s.stage, s.tracking_number "
        "from public.customer_orders_summary as o "
        "join public.order_delivery_status as s on s.order_summary_id = o.id "
        "where o.deleted_at is null and o.contact_phone like '94%' order by o.order_code"
    )


async def track(api: httpx.AsyncClient, order: asyncpg.Record, **parameters: Any) -> httpx.Response:
    return await api.get(f"/orders/{order['order_code']}", params={"phone": order["contact_phone"], **parameters})


@both_doors
async def test_every_order_is_found_by_its_code_and_phone(api: httpx.AsyncClient, orders: list[asyncpg.Record]) -> None:
    assert {order["stage"] for order in orders} >= {"ORDER_CONFIRMED", "SOURCING", "ARRIVED", "DISPATCHED"}
    for order in orders:
        answer = await track(api, order)
        seen = answer.json()
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert (seen["order_code"], seen["stage"]) == (order["order_code"], order["stage"])
        assert (seen["currency"], seen["total_with_tax"]) == ("LKR", str(order["total_with_tax"]))
        assert all(item["product_name"] and item["quantity"] > 0 for item in seen["items"])


async def test_the_timeline_has_five_stages_and_times_up_to_the_present_one(
    api: httpx.AsyncClient, orders: list[asyncpg.Record]
) -> None:
    for order in orders:
        timeline = (await track(api, order)).json()["timeline"]
        present = STAGES.index(order["stage"])
        assert [step["stage"] for step in timeline] == STAGES
        assert timeline[present]["reached_at"] is not None
        assert all(step["reached_at"] is None for step in timeline[present + 1 :])


async def test_the_tracking_number_is_told_from_dispatch_on(
    api: httpx.AsyncClient, orders: list[asyncpg.Record]
) -> None:
    numbered = [order for order in orders if order["tracking_number"]]
    for order in numbered:
        told = (await track(api, order)).json()["tracking_number"]
        assert told == (order["tracking_number"] if order["stage"] in STAGES[3:] else None)
    assert {order["stage"] in STAGES[3:] for order in numbered} == {True, False}


@pytest.mark.parametrize("form", ["{}", "+{}", " {}", "00{}", "+{} ", "0{local}", "{local}", "(0{area}) {rest}"])
async def test_a_phone_may_be_written_as_people_write_it(
    api: httpx.AsyncClient, orders: list[asyncpg.Record], form: str
) -> None:
    digits = orders[0]["contact_phone"]
    written = form.format(digits, local=digits[2:], area=digits[2:4], rest=digits[4:])
    assert (await track(api, orders[0], phone=written)).status_code == 200
    assert (await track(api, orders[0], phone=written, store="default")).status_code == 200


def misses(order: asyncpg.Record) -> dict[str, tuple[str, dict[str, str]]]:
    code, phone = order["order_code"], order["contact_phone"]
    return {
        "unknown code": ("NOSUCHORDER", {"phone": phone}),
        "wrong phone": (code, {"phone": "94770000000"}),
        "no phone": (code, {"phone": "hello"}),
        "empty phone": (code, {"phone": ""}),
        "unknown store": (code, {"phone": phone, "store": "elsewhere"}),
        "NUL": (f"{code}%00", {"phone": phone, "store": "\0"}),
        "long": ("x" * 5000, {"phone": "9" * 5000}),
    }


@both_doors
async def test_every_miss_is_the_same_answer(api: httpx.AsyncClient, orders: list[asyncpg.Record]) -> None:
    asked = misses(orders[0]).values()
    answers = [await api.get(f"/orders/{code}", params=parameters) for code, parameters in asked]
    assert len({answer.content for answer in answers}) == 1
    assert {answer.json()["code"] for answer in answers} == {"unknown-order"}
    shown = [{k: v for k, v in answer.headers.items() if k not in {"date", "x-request-id"}} for answer in answers]
    assert all(headers == shown[0] for headers in shown)


async def test_every_miss_takes_the_same_time(api: httpx.AsyncClient, orders: list[asyncpg.Record]) -> None:
    took: dict[str, list[float]] = {name: [] for name in misses(orders[0])}
    for _ in range(9):
        for name, (code, parameters) in misses(orders[0]).items():
            started = time.perf_counter()
            await api.get(f"/orders/{code}", params=parameters)
            took[name].append(time.perf_counter() - started)
    assert min(min(times) for times in took.values()) >= 0.1
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) - min(medians) < 0.05


async def test_every_miss_takes_its_time_where_the_api_is_a_process_of_its_own(
    database: str, orders: list[asyncpg.Record]
) -> None:
    async with process(database) as (_, api):
        for code, parameters in [miss for _ in range(5) for miss in misses(orders[0]).values()]:
            started = time.perf_counter()
            await api.get(f"/orders/{code}", params=parameters)
            assert time.perf_counter() - started > 0.09


async def test_a_miss_holds_no_connection_while_it_waits(
    database: str, secrets: None, orders: list[asyncpg.Record]
) -> None:
    async with serving(database, database_connections=1) as api:
        guesses = [asyncio.create_task(track(api, orders[0], phone="94770000000")) for _ in range(60)]
        await asyncio.sleep(0)
        assert (await track(api, orders[0])).status_code == 200
        assert not all(guess.done() for guess in guesses)
        assert {(await guess).status_code for guess in guesses} == {404}


async def test_a_missing_phone_is_named(api: httpx.AsyncClient) -> None:
    answer = await api.get("/orders/X")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    assert "'phone'" in answer.json()["detail"]


async def test_no_phone_gets_into_the_log(
    network: Proxy,
    secrets: None,
    orders: list[asyncpg.Record],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    phone = orders[0]["contact_phone"]
    async with serving(network.dsn) as api:
        await track(api, orders[0])
        await api.get("/orders/unknown", params={"phone": phone})
        await api.get("/nowhere", params={"phone": phone})
        network.cut()
        away = await track(api, orders[0])
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    output = "".join(capfd.readouterr()) + caplog.text
    assert "api.unavailable" in output
    assert phone not in output


async def test_an_error_of_ours_tells_nothing_of_itself_or_the_customer(
    api: httpx.AsyncClient,
    orders: list[asyncpg.Record],
    connection: asyncpg.Connection,
    capfd: pytest.CaptureFixture[str],
) -> None:
    await connection.execute("drop function mirror.track_orders")
    answer = await track(api, orders[0])
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "track_orders" not in answer.text
    output = "".join(capfd.readouterr())
    assert "mirror.track_orders" in output
    assert orders[0]["contact_phone"] not in output
