"""`POST /hooks/{integration}`: every answer, over HTTP, into a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from api.cached import Cached
from sync.errors import Retry
from sync.settings import SettingsError
from tests.flow.proxy import Proxy
from tests.flow.serving import HOOKS, SECRETS_VARIABLE, post, serving, until
from tests.hooks import OTHER_SECRET, SECRET, body_of, change, signed
from tests.rest.gateway import both_doors

RECORDED = Path(__file__).parent.parent / "recorded" / "vendure" / "hooks.jsonl"
ONE = body_of(change("1"))


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:commerce-mirror:problem:{code}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    return problem


async def stored(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("select event_id from mirror.webhook_events order by event_id")
    return [row["event_id"] for row in rows]


@both_doors
async def test_a_hook_is_stored_before_it_is_answered(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    answer = await post(api, body_of(change("1"), change("2")))
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2, "duplicates": 0})
    row = await connection.fetchrow("select * from mirror.webhook_events where event_id = '1'")
    assert row is not None
    assert (row["event_type"], row["entity_id"], row["state"]) == ("order.changed", "12", "pending")
    assert row["payload"] in ONE.decode()


@both_doors
async def test_duplicates_are_counted_and_stored_once(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    within = await post(api, body_of(change("1"), change("1"), change("2")))
    across = await post(api, body_of(change("2"), change("3")), message_id="msg_2")
    assert within.json() == {"accepted": 2, "duplicates": 1}
    assert across.json() == {"accepted": 1, "duplicates": 1}
    assert await stored(connection) == ["1", "2", "3"]


@both_doors
async def test_of_many_at_the_same_time_one_is_new(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    answers = await asyncio.gather(*(post(api, ONE, message_id=f"msg_{n}") for n in range(40)))
    assert {answer.status_code for answer in answers} == {202}
    assert sum(answer.json()["accepted"] for answer in answers) == 1
    assert await stored(connection) == ["1"]


@both_doors
async def test_all_that_a_real_shop_sent_is_accepted(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    bodies = [json.loads(line)["body"].encode() for line in RECORDED.read_bytes().splitlines()]
    answers = await asyncio.gather(*(post(api, body) for body in bodies))
    assert {answer.status_code for answer in answers} == {202}
    assert sum(answer.json()["accepted"] for answer in answers) == len(await stored(connection))


async def test_an_unknown_type_is_stored(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    assert (await post(api, body_of(change("1", type="coupon.changed")))).status_code == 202
    assert await stored(connection) == ["1"]


@both_doors
async def test_characters_that_postgres_cannot_hold_keep_no_order_out(
    api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    answer = await post(api, body_of(change("1", data={"code": "A\0B", "note": "\ud800"})))
    assert answer.json() == {"accepted": 1, "duplicates": 0}
    data = await connection.fetchval("select payload -> 'data' ->> 'code' from mirror.webhook_events")
    assert data == "A\ufffdB"


async def test_a_hook_that_is_not_ours_is_refused(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    assert (await post(api, ONE)).status_code == 202
    wrong = await api.post(HOOKS, content=ONE, headers=signed(ONE, OTHER_SECRET))
    tampered = await api.post(HOOKS, content=ONE.replace(b'"1"', b'"2"'), headers=signed(ONE))
    old = await api.post(HOOKS, content=ONE, headers=signed(ONE, at=datetime.now(UTC) - timedelta(minutes=6)))
    bare = await api.post(HOOKS, content=ONE)
    for answer in (wrong, tampered, old, bare):
        assert_problem(answer, 401, "bad-signature")
    assert await stored(connection) == ["1"]


async def test_both_secrets_work_while_one_is_rotated(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRETS_VARIABLE, f"{OTHER_SECRET}, {SECRET}")
    async with serving(database) as api:
        for number, secret in enumerate((SECRET, OTHER_SECRET)):
            body = body_of(change(str(number)))
            answer = await api.post(HOOKS, content=body, headers=signed(body, secret))
            assert answer.json() == {"accepted": 1, "duplicates": 0}


async def test_what_is_malformed_is_said_with_its_place(api: httpx.AsyncClient) -> None:
    answer = await post(api, body_of(change("1"), change("2", entityId=5)))
    assert assert_problem(answer, 400, "malformed")["detail"] == "events[1].entityId: Expected `str`, got `int`"
    nested = b'{"type":"vendure.changes","events":[' + b"[" * 20_000 + b"]" * 20_000 + b"]}"
    assert_problem(await post(api, nested), 400, "malformed")


async def test_a_body_that_is_too_large_is_refused(database: str, secrets: None) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 1024

    async with serving(database, max_body_bytes=20_000) as api:
        body = body_of(change("1", data={"note": "x" * 20_000}))
        assert_problem(await post(api, body), 413, "request-entity-too-large")
        chunked = await api.post(HOOKS, content=endless(), headers=signed(ONE))
        assert_problem(chunked, 413, "request-entity-too-large")
        assert (await post(api, ONE)).status_code == 202


async def test_an_unknown_integration_is_not_found_until_it_exists(
    api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    second = "/hooks/second-shop"
    assert_problem(await api.post(second, content=ONE, headers=signed(ONE)), 404, "unknown-integration")
    await connection.execute(
        "insert into mirror.integrations (store_id, slug, engine, secrets_variable) "
        "select store_id, 'second-shop', engine, secrets_variable from mirror.integrations"
    )

    async def is_known() -> bool:
        return (await api.post(second, content=ONE, headers=signed(ONE))).status_code == 202

    await until(is_known)


async def test_an_integration_without_secrets_does_not_stop_the_others(
    api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "insert into mirror.integrations (store_id, slug, engine, secrets_variable) "
        "select store_id, 'unset', engine, 'NEVER_SET' from mirror.integrations"
    )

    async def is_known() -> bool:
        return (await api.post("/hooks/unset", content=ONE, headers=signed(ONE))).status_code != 404

    await until(is_known)
    answer = await api.post("/hooks/unset", content=ONE, headers=signed(ONE))
    assert "NEVER_SET" not in answer.text
    assert_problem(answer, 503, "unprepared-integration")
    assert (await post(api, ONE)).status_code == 202


async def test_the_start_names_every_secret_that_is_missing(
    database: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SECRETS_VARIABLE, raising=False)
    await connection.execute(
        "insert into mirror.integrations (store_id, slug, engine, secrets_variable) "
        "select store_id, 'unset', engine, 'NEVER_SET' from mirror.integrations"
    )
    with pytest.raises(SettingsError, match=rf"(?s)NEVER_SET.*{SECRETS_VARIABLE}"):
        async with serving(database):
            pass


async def test_while_the_database_is_away_hooks_are_to_be_sent_again(network: Proxy, secrets: None) -> None:
    async with serving(network.dsn) as api:
        assert (await post(api, ONE)).status_code == 202
        network.cut()
        away = await post(api, body_of(change("2")))
        assert_problem(away, 503, "unavailable")
        assert away.headers["retry-after"] == "5"
        assert (await api.get("/health/live")).status_code == 200
        assert_problem(await api.get("/health/ready"), 503, "unavailable")
        network.mend()
        assert (await post(api, body_of(change("2")))).json() == {"accepted": 1, "duplicates": 0}
        assert (await api.get("/health/ready")).json() == {"status": "ready"}


async def test_the_api_starts_without_its_database_and_finds_it_later(network: Proxy, secrets: None) -> None:
    network.cut()
    async with serving(network.dsn) as api:
        assert_problem(await post(api, ONE), 503, "unavailable")
        network.mend()

        async def is_back() -> bool:
            return (await post(api, ONE)).status_code == 202

        await until(is_back)


async def test_whether_an_integration_exists_is_not_said_while_it_cannot_be_known(
    network: Proxy, secrets: None
) -> None:
    async with serving(network.dsn) as api:
        network.cut()

        async def is_unavailable() -> bool:
            return (await api.post("/hooks/other", content=ONE, headers=signed(ONE))).status_code == 503

        await until(is_unavailable)


async def test_without_the_schema_the_start_says_what_to_do(platform_database: str, secrets: None) -> None:
    with pytest.raises(SettingsError, match="mirror migrate"):
        async with serving(platform_database):
            pass


async def test_other_addresses_and_methods_are_problems_too(api: httpx.AsyncClient) -> None:
    assert_problem(await api.get("/nowhere"), 404, "not-found")
    assert "POST" in (await api.get(HOOKS)).headers["allow"]
    assert_problem(await api.get(HOOKS), 405, "method-not-allowed")


async def test_unknown_names_cannot_hammer_the_database() -> None:
    now = 0.0
    reads = 0

    async def read() -> int:
        nonlocal reads
        reads += 1
        if reads == 3:
            raise Retry("away")
        return reads

    cached = Cached(read, clock=lambda: now)
    assert await asyncio.gather(*(cached.refreshed() for _ in range(50))) == [1] * 50
    now = 1.0
    assert await asyncio.gather(*(cached.refreshed() for _ in range(50))) == [2] * 50
    now = 40.0
    assert await asyncio.gather(*(cached.get() for _ in range(50))) == [2] * 50
    with pytest.raises(Retry):
        await cached.refreshed()
    assert reads == 3
