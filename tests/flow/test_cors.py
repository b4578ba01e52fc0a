"""CORS: each store says which sites' scripts may read what its customers are told."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from tests.flow.serving import HOOKS, serving

OURS, THEIRS, NOBODYS = "https://shop.example", "https://other.example", "https://evil.example"


@pytest.fixture(autouse=True)
async def stores(connection: asyncpg.Connection) -> None:
    await connection.execute("update public.stores set allowed_origins = $1", [OURS])
    await connection.execute(
        "insert into public.stores (slug, name, currency, phone_region, timezone, locale, allowed_origins) "
        "values ('second', 'Second', 'LKR', 'LK', 'Asia/Colombo', 'en', $1)",
        [THEIRS],
    )


def read_by(answer: httpx.Response) -> str | None:
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers
    allowed: str | None = answer.headers.get("access-control-allow-origin")
    return allowed


async def test_a_store_s_own_sites_may_read_the_answers_and_no_other(database: str, secrets: None) -> None:
    async with serving(database) as api:

        async def ask(origin: str, store: str) -> str | None:
            parameters = {"phone": "0771234567", "store": store}
            return read_by(await api.get("/orders/X", params=parameters, headers={"Origin": origin}))

        assert await ask(OURS, "default") == OURS
        assert await ask(THEIRS, "second") == THEIRS
        assert await ask(OURS, "second") is None
        assert await ask(THEIRS, "default") is None
        assert await ask(NOBODYS, "default") is None
        assert await ask("null", "default") is None
        assert read_by(await api.get("/orders/X", params={"phone": "0771234567"})) is None
        hooks = await api.post(HOOKS, headers={"Origin": OURS})
        assert "access-control-allow-origin" not in hooks.headers


async def test_a_preflight_says_what_may_be_sent(database: str, secrets: None) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with serving(database) as api:
        for origin in (OURS, THEIRS):
            answer = await api.options("/otp/request", headers={"Origin": origin, **asked})
            assert (answer.status_code, read_by(answer)) == (204, origin)
            assert "POST" in answer.headers["access-control-allow-methods"]
            assert "content-type" in answer.headers["access-control-allow-headers"]
            assert "x-request-id" in answer.headers
        refused = await api.options("/otp/request", headers={"Origin": NOBODYS, **asked})
        assert read_by(refused) is None
        assert "access-control-allow-methods" not in refused.headers
        told = await api.post("/otp/verify", json={}, headers={"Origin": OURS})
        assert (told.status_code, read_by(told)) == (400, OURS)


async def test_no_site_gets_round_the_preflight_by_another_content_type(database: str, secrets: None) -> None:
    async with serving(database) as api:
        for kind in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}):
            answer = await api.post("/otp/request", content=b'{"phone": "0771234567"}', headers=kind)
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")
