"""`POST /auth/hooks/send-sms`: Supabase Auth's codes go out by our drivers, within our limits and its five seconds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import asyncpg
import httpx
import msgspec
import pytest

from api import app as app_module
from api.settings import EdgeSettings, Route, load_edge_settings
from api.sms.base import Refused
from tests.flow.serving import serving
from tests.hooks import OTHER_SECRET, SECRET, signed

HOOK = "/auth/hooks/send-sms"
PHONE = "94771234567"
UNKNOWN = "whsec_" + "c29tZWJvZHkgZWxzZSdzIHNlY3JldCwgbm90IG91cnM="


@pytest.fixture(autouse=True)
def edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_SEND_SMS_SECRETS", f"v1,{SECRET}|v1,{OTHER_SECRET}")


def hook(otp: str = "493817", phone: str = PHONE, **user: Any) -> bytes:
    """Return what Supabase Auth posts."""
    return json.dumps({"user": {"id": "6481a5c1", "phone": phone, **user}, "sms": {"otp": otp}}).encode()


async def send(
    api: httpx.AsyncClient,
    body: bytes,
    *secrets: str,
    message_id: str = "msg_1",
    at: datetime | None = None,
    to: str = HOOK,
) -> httpx.Response:
    headers = signed(body, *secrets, message_id=message_id, at=at)
    headers["webhook-signature"] = headers["webhook-signature"].replace(" ", ", ")
    return await api.post(to, content=body, headers=headers)


@pytest.mark.parametrize("signers", [(SECRET,), (OTHER_SECRET,), (SECRET, OTHER_SECRET), (UNKNOWN, SECRET)])
async def test_a_code_goes_out_whichever_of_the_secrets_signs_it(
    api: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], signers: tuple[str, ...]
) -> None:
    answer = await send(api, hook(), *signers)
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, "application/json", {})
    assert f"SMS to +{PHONE}:\n493817 is your code" in capfd.readouterr().err


async def test_the_number_of_the_text_goes_before_the_user_s_and_a_new_one_gets_nothing(
    api: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    body = json.loads(hook(new_phone="94775555555"))
    await send(api, json.dumps(body).encode(), message_id="1")
    body["sms"]["phone"] = "+94776666666"
    await send(api, json.dumps(body).encode(), message_id="2")
    printed = capfd.readouterr().err
    assert f"SMS to +{PHONE}:" in printed
    assert "SMS to +94776666666:" in printed
    assert "94775555555" not in printed


@pytest.mark.parametrize(
    "change", [{"secrets": (UNKNOWN,)}, {"at": datetime(2026, 1, 1, tzinfo=UTC)}, {"at": timedelta(minutes=6)}]
)
async def test_what_supabase_did_not_sign_now_is_refused(
    api: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    at = change.get("at")
    moment = datetime.now(UTC) - at if isinstance(at, timedelta) else at
    answer = await send(api, hook(), *change.get("secrets", ()), at=moment)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad-signature")
    assert (await api.post(HOOK, content=hook())).status_code == 401
    assert "SMS to" not in capfd.readouterr().err


async def test_a_hook_that_is_sent_again_is_one_text(
    api: httpx.AsyncClient, connection: asyncpg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    assert [(await send(api, hook())).json() for _ in range(3)] == [{}, {}, {}]
    assert capfd.readouterr().err.count("SMS to") == 1
    row = await connection.fetchrow("select * from mirror.sms_deliveries")
    assert row is not None
    assert (row["purpose"], row["outcome"], row["message_id"]) == ("supabase-auth", "sent", "msg_1")
    assert PHONE not in str(row)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"user": {}, "sms": {"otp": "12"}}', b'{"user": {}, "sms": {}}'])
async def test_what_is_no_such_hook_is_malformed(api: httpx.AsyncClient, body: bytes) -> None:
    answer = await send(api, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("phone", "http_code"), [("447911123456", 422), ("94112345678", 422), ("", 422), ("hello", 422)]
)
async def test_a_number_that_gets_no_codes_is_told_to_the_user(
    api: httpx.AsyncClient, phone: str, http_code: int
) -> None:
    answer = await send(api, hook(phone=phone))
    assert (answer.status_code, answer.json()["error"]["http_code"]) == (200, http_code)


async def test_a_cap_is_told_to_the_user(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await connection.execute("update mirror.otp_settings set phone_hourly = 1")
    assert (await send(api, hook(), message_id="1")).json() == {}
    refused = await send(api, hook(), message_id="2")
    assert (refused.status_code, refused.json()["error"]["http_code"]) == (200, 429)
    assert "seconds" in refused.json()["error"]["message"]


async def test_a_store_may_be_named_in_the_address(api: httpx.AsyncClient) -> None:
    assert (await send(api, hook(), to=f"{HOOK}?store=default")).json() == {}
    answer = await send(api, hook(), message_id="2", to=f"{HOOK}?store=nowhere")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-store")


async def test_the_hook_is_off_without_its_secret(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIRROR_SEND_SMS_SECRETS")
    async with serving(database) as api:
        answer = await send(api, hook())
        assert (answer.status_code, answer.json()["code"]) == (503, "unprepared-hook")


class Slow:
    """A provider that takes its time, or fails."""

    VARIABLES: ClassVar[Mapping[str, str]] = {}

    def __init__(self, seconds: float, *, fails: bool = False) -> None:
        self._seconds = seconds
        self._fails = fails

    async def send(self, _client: httpx.AsyncClient, _phone: str, _text: str) -> None:
        await asyncio.sleep(self._seconds)
        if self._fails:
            raise Refused("no credit")


def through(monkeypatch: pytest.MonkeyPatch, driver: Slow) -> None:
    """Have the API send through this driver."""

    def load() -> EdgeSettings:
        edge = load_edge_settings()
        return msgspec.structs.replace(edge, routes=(Route("slow", driver, edge.routes[0].segment_price),))

    monkeypatch.setattr(app_module, "load_edge_settings", load)


async def test_supabase_is_answered_within_its_limit_however_slow_the_provider_is(
    database: str, secrets: None, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(monkeypatch, Slow(4))
    async with serving(database) as api:
        started = time.perf_counter()
        assert (await send(api, hook())).json() == {}
        assert time.perf_counter() - started < 4
    assert await connection.fetchval("select outcome::text from mirror.sms_deliveries") == "sent"


async def test_a_text_that_nobody_takes_is_told_to_the_user(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    through(monkeypatch, Slow(0, fails=True))
    async with serving(database) as api:
        answer = await send(api, hook())
    assert (answer.status_code, answer.json()["error"]["http_code"]) == (200, 503)
    assert "493817" not in "".join(capfd.readouterr())
