"""What every request passes, whatever its route: ids, security headers, bounds on how long and how much it may send."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from api.edge import connections, door
from api.edge.headers import DEFAULTS
from sync.database import connect
from sync.events import Choice, find, read
from sync.settings import Address
from tests.flow.serving import HOOKS, serving
from tests.hooks import body_of, change, signed
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

ONE = body_of(change("1"))


@asynccontextmanager
async def socket_to(api: httpx.AsyncClient) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection on which a test sends what it likes."""
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answered(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Return status and problem of the answer with which the server closes."""
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)


async def test_every_answer_has_the_id_of_its_request_and_the_security_headers(api: httpx.AsyncClient) -> None:
    for method, path in (("GET", "/health/live"), ("GET", "/nowhere"), ("GET", HOOKS), ("POST", HOOKS)):
        answer = await api.request(method, path)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
        assert {name: answer.headers.get_list(name) for name in DEFAULTS} == {
            name: [value] for name, value in DEFAULTS.items()
        }
        assert "strict-transport-security" not in answer.headers
    told = await api.get("/nowhere", headers={"X-Request-ID": "shop-4711"})
    assert told.headers["x-request-id"] == "shop-4711"


async def test_a_head_is_what_a_get_would_begin_with(api: httpx.AsyncClient) -> None:
    for path in ("/health/live", "/track", "/nowhere", "/orders/NONE", HOOKS):
        head, get = await api.head(path), await api.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        for name in ("content-type", "content-length", "allow"):
            assert head.headers.get(name) == get.headers.get(name)
    refused = await api.put("/track")
    assert {"GET", "HEAD", "POST"} <= set(refused.headers["allow"].split(", "))


async def test_behind_tls_browsers_are_told_to_come_back_by_it(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_HSTS_SECONDS", "31536000")
    async with serving(database) as api:
        answer = await api.get("/health/live")
    assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


async def test_a_head_or_a_body_that_does_not_come_ends_its_connection(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, connection: asyncpg.Connection
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(ONE).items())
    for begun in (
        b"",
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n",
        f"POST {HOOKS} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(ONE)}\r\n{head}\r\n".encode() + ONE[:-1],
    ):
        async with socket_to(api) as (reader, writer):
            writer.write(begun)
            assert (await answered(reader))[1]["code"] == "request-timeout"
    assert await connection.fetchval("select count(*) from mirror.webhook_events") == 0
    assert (await api.get("/health/live")).status_code == 200


async def test_a_byte_now_and_then_gives_no_more_time(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    async with socket_to(api) as (reader, writer):

        async def drip() -> None:
            writer.write(b"GET /health/live HTTP/1.1\r\nx: ")
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert (await answered(reader))[0] == 408
        dripping.cancel()


async def test_a_head_that_is_too_long_is_not_kept(api: httpx.AsyncClient) -> None:
    async with socket_to(api) as (reader, writer):
        writer.write(b"GET /health/live HTTP/1.1\r\nx: " + b"x" * (connections.MAX_HEAD_BYTES + 1))
        assert (await answered(reader))[1]["code"] == "request-header-fields-too-large"


async def test_what_is_no_http_is_told_so(api: httpx.AsyncClient) -> None:
    async with socket_to(api) as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert (await answered(reader))[1]["code"] == "bad-request"


async def test_connections_above_the_limit_are_sent_away_and_the_others_stay(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_MAX_CONNECTIONS", "2")
    async with serving(database) as api:
        assert (await api.get("/health/live")).status_code == 200
        async with socket_to(api):
            async with socket_to(api) as (reader, _):
                assert (await answered(reader))[1]["code"] == "unavailable"
            assert (await api.get("/health/live")).status_code == 200


async def test_an_unsigned_body_is_refused_before_it_is_sent(api: httpx.AsyncClient) -> None:
    async with socket_to(api) as (reader, writer):
        writer.write(f"POST {HOOKS} HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n".encode())
        async with asyncio.timeout(10):
            assert b" 401 " in await reader.readline()
        writer.write(b"x" * (2 * connections.MAX_WASTED_BYTES))
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionError):  # noqa: PT012 - it may break off at either
                while await reader.read(65536):
                    pass
                raise ConnectionError


async def test_who_breaks_off_is_no_failure_of_ours(
    api: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(ONE).items())
    async with socket_to(api) as (_, writer):
        writer.write(f"POST {HOOKS} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(ONE)}\r\n{head}\r\n".encode())
        await writer.drain()
        assert (await api.get("/health/live")).status_code == 200
    printed = ""
    async with asyncio.timeout(10):
        while "api.cut_off" not in printed:
            await asyncio.sleep(0.02)
            printed += "".join(capfd.readouterr())
    assert "api.failed" not in printed + caplog.text


async def test_what_takes_too_long_is_answered_all_the_same(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def never(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(door, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("api.hooks.Intake.accept", never)
    async with serving(database) as api:
        answer = await api.post(HOOKS, content=ONE, headers=signed(ONE))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "5"
    assert "api.late" in "".join(capfd.readouterr())


@both_doors
async def test_a_row_can_be_traced_to_the_request_that_brought_it(
    api: httpx.AsyncClient, mirror: Mirror, address: Address
) -> None:
    body = body_of(change("1", data={"id": "12", "code": "K3QT"}))
    told = await api.post(HOOKS, content=body, headers=signed(body) | {"X-Request-ID": "shop-4711"})
    other = body_of(change("2"), change("3"))
    made = (await api.post(HOOKS, content=other, headers=signed(other))).headers["x-request-id"]
    assert told.headers["x-request-id"] == "shop-4711"
    async with connect(address) as database:
        brought = {
            request: sorted(event["event_id"] for event in await find(database, Choice(request=request), limit=9))
            for request in ("shop-4711", made, "another")
        }
        (shown,) = await read(database, "1", None)
        story = await database.rows("why_order", p_order_code="K3QT")
    assert brought == {"shop-4711": ["1"], made: ["2", "3"], "another": []}
    assert shown["request_id"] == "shop-4711"
    assert any("request shop-4711" in moment["what"] for moment in story)
