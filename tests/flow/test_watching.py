"""What whoever keeps watch is told: readiness, metrics, logs; and that none of it tells of a customer."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from tests.flow.serving import HOOKS, post, serving
from tests.hooks import OTHER_SECRET, body_of, change, signed

TOKEN = "a-token-for-the-metrics"
PHONE, NAME, CODE = "94779998877", "Marked Person", "MARKEDORDERCODE1"


async def test_not_ready_while_migrations_are_missing(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    assert (await api.get("/health/ready")).json() == {"status": "ready"}
    last = await connection.fetchval(
        "delete from supabase_migrations.schema_migrations where version = "
        "(select max(version) from supabase_migrations.schema_migrations) returning version"
    )
    answer = await api.get("/health/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "pending-migrations")
    assert answer.json()["pending"] == [last]


async def test_not_ready_while_events_wait_too_long(
    database: str, secrets: None, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_READY_LAG_SECONDS", "60")
    async with serving(database) as api:
        await post(api, body_of(change("1")))
        assert (await api.get("/health/ready")).status_code == 200
        await connection.execute("update mirror.webhook_events set available_at = now() - interval '2 minutes'")
        answer = await api.get("/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "lagging")
        assert answer.json()["lag_seconds"] >= 120
        await connection.execute("update mirror.webhook_events set available_at = now() + interval '1 minute'")
        assert (await api.get("/health/ready")).status_code == 200


async def test_nothing_personal_is_logged_or_counted(
    database: str,
    secrets: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MIRROR_TRUSTED_PROXIES", "127.0.0.1")
    monkeypatch.setenv("MIRROR_SEND_SMS_SECRETS", "")
    address = {"X-Forwarded-For": "192.0.2.77"}
    data = {"id": "12", "code": CODE, "customer": {"firstName": NAME, "phoneNumber": PHONE}}
    body = body_of(change("1", data=data))
    async with serving(database, metrics_token=TOKEN) as api:
        api.headers.update(address)
        await api.post(HOOKS, content=body, headers=signed(body))
        await api.post(HOOKS, content=body, headers=signed(body, OTHER_SECRET))
        broken = body_of(change(PHONE, entityId=5, data=data))
        await api.post(HOOKS, content=broken, headers=signed(broken))
        for path in (f"/orders/{CODE}", f"/orders/{CODE}/events", f"/track/{CODE}", f"/nowhere/{CODE}", "/track"):
            for method in ("GET", "POST"):
                await api.request(method, path, params={"phone": PHONE, "t": NAME}, headers={"Authorization": NAME})
        await api.post("/track", data={"code": CODE, "phone": PHONE})
        await api.post("/otp/verify", json={"session_id": CODE, "code": "493817"})
        await api.post("/otp/request", json={"phone": PHONE, "purpose": NAME})
        await api.post(f"/auth/hooks/send-sms?x={PHONE}", json={"user": {"phone": PHONE}})
        metrics = (await api.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})).text
    told = "".join(capfd.readouterr()) + caplog.text + metrics
    assert "hook.refused" in told
    assert 'mirror_request_seconds_count{method="GET",route="/orders/{code}",status="404"}' in metrics
    assert 'mirror_hook_events_total{integration="vendure",outcome="accepted"}' in metrics
    assert 'mirror_sms_budget_today{store="default"} 5000.0' in metrics
    for marked in (PHONE, PHONE[2:], NAME, CODE, "192.0.2.77", "493817"):
        assert marked not in told


async def test_the_viewer_loads_nothing_from_elsewhere(api: httpx.AsyncClient) -> None:
    page = await api.get("/schema")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in page.text
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        assert f"/schema/assets/{asset}" in page.text
        assert (await api.get(f"/schema/assets/{asset}")).status_code == 200
    assert (await api.get("/schema/assets/index.css")).json()["code"] == "not-found"
    document = (await api.get("/schema/openapi.json")).json()
    for path, routes in document["paths"].items():
        for route in routes.values():
            assert {"429", "500", "503"} <= route["responses"].keys(), path
