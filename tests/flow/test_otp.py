"""`POST /otp/request`, `POST /otp/verify`: a phone number is proved, and opens its owner's orders and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from sync.database import connect
from sync.token_keys import make_token_key
from tests.database.postgrest import acting_as, authenticator
from tests.factory import customer_changed, order_changed
from tests.flow.proxy import Proxy
from tests.flow.serving import post, process, serving, until
from tests.hooks import body_of, change
from tests.mirror import Mirror
from tests.postgres import TestServer

PHONE, OTHER, STRANGER = "94771234567", "94777654321", "94779998877"
KEY = make_token_key()
SMS = re.compile(r"SMS to \+(\d+):\n(\d{6}) ")
TABLES = ("customers", "customer_orders_summary", "order_delivery_status")


@pytest.fixture(autouse=True)
def edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are printed, tokens signed, and hashes cheap; the tests come through a proxy that is trusted."""
    monkeypatch.setenv("MIRROR_TOKEN_KEY", KEY)
    monkeypatch.setenv("MIRROR_BCRYPT_COST", "8")
    monkeypatch.setenv("MIRROR_TRUSTED_PROXIES", "127.0.0.1")


@pytest.fixture
async def shop(database: str, connection: asyncpg.Connection) -> None:
    """Customer 1 and 2 have an order each, and a phone that nobody proved."""
    async with connect(database) as door:
        mirror = await Mirror.over(door, connection)
        for number, phone in (("1", PHONE), ("2", OTHER)):
            await mirror.take(
                customer_changed(number, 1, phoneNumber=f"+{phone}"),
                order_changed(number, 1, customer={"id": number}),
            )


@pytest.fixture
async def data_api(server: TestServer, connection: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    name = await connection.fetchval("select current_database()")
    async with authenticator(server.superuser(name)) as opened:
        yield opened


class Phone:
    """Whoever holds the phones: reads what was sent to them."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.printed = ""

    def codes(self) -> dict[str, str]:
        self.printed += "".join(self._capfd.readouterr())
        return dict(SMS.findall(self.printed))

    async def code(self, phone: str = PHONE) -> str:
        """Wait for the SMS."""

        async def has_come() -> bool:
            return phone in self.codes()

        await until(has_come)
        return self.codes()[phone]


@pytest.fixture
def phone(capfd: pytest.CaptureFixture[str]) -> Phone:
    return Phone(capfd)


async def ask(api: httpx.AsyncClient, phone: str = PHONE, *, by: str = "203.0.113.7", **fields: Any) -> httpx.Response:
    return await api.post("/otp/request", json={"phone": phone, **fields}, headers={"X-Forwarded-For": by})


async def enter(api: httpx.AsyncClient, session: str, code: str) -> httpx.Response:
    return await api.post("/otp/verify", json={"session_id": session, "code": code})


async def begin(api: httpx.AsyncClient, phone: str = PHONE, **fields: Any) -> str:
    answer = await ask(api, phone, **fields)
    assert answer.status_code == 202, answer.text
    session: str = answer.json()["session_id"]
    return session


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


async def settled(connection: asyncpg.Connection) -> None:
    """Wait until every text is noted."""

    async def are_all() -> bool:
        return not await connection.fetchval(
            "select exists (select from mirror.sms_deliveries where outcome = 'queued')"
        )

    await until(are_all)


# The way through


async def test_a_proved_number_opens_its_own_orders_through_row_level_security_and_no_others(
    api: httpx.AsyncClient, shop: None, phone: Phone, data_api: asyncpg.Connection
) -> None:
    answer = await ask(api, "077 123 4567")
    assert (answer.status_code, answer.headers["cache-control"]) == (202, "no-store")
    asked = answer.json()
    assert {name: asked[name] for name in ("expires_in", "resend_in")} == {"expires_in": 300, "resend_in": 60}
    verified = await enter(api, asked["session_id"], await phone.code())
    assert (verified.status_code, verified.headers["cache-control"]) == (200, "no-store")
    assert (verified.json()["verified"], verified.json()["expires_in"]) == (True, 3600)

    public = ECKey.import_key({name: json.loads(KEY)[name] for name in ("kty", "crv", "x", "y", "kid")})
    claims = jwt.decode(verified.json()["token"], public, algorithms=["ES256"]).claims
    async with acting_as(data_api, claims["role"], claims, method="GET"):
        assert [row["source_id"] for row in await data_api.fetch("select * from customers")] == ["1"]
        assert [row["source_id"] for row in await data_api.fetch("select * from customer_orders_summary")] == ["1"]
        assert await data_api.fetchval("select count(*) from order_delivery_status") == 1
    for altered in ({"mirror_phone": OTHER}, {"mirror_phone": STRANGER}, {"mirror_store": claims["sub"]}):
        async with acting_as(data_api, claims["role"], {**claims, **altered}, method="GET"):
            assert [await data_api.fetchval(f"select count(*) from {table}") for table in TABLES] == [0, 0, 0]


async def test_a_number_that_the_shop_does_not_know_is_proved_as_well_and_opens_nothing(
    api: httpx.AsyncClient, shop: None, phone: Phone, data_api: asyncpg.Connection
) -> None:
    session = await begin(api, STRANGER)
    verified = (await enter(api, session, await phone.code(STRANGER))).json()
    public = ECKey.import_key({name: json.loads(KEY)[name] for name in ("kty", "crv", "x", "y", "kid")})
    claims = jwt.decode(verified["token"], public, algorithms=["ES256"]).claims
    async with acting_as(data_api, claims["role"], claims, method="GET"):
        assert [await data_api.fetchval(f"select count(*) from {table}") for table in TABLES] == [0, 0, 0]


async def test_without_a_key_there_is_no_token(
    database: str, secrets: None, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIRROR_TOKEN_KEY")
    async with serving(database) as api:
        session = await begin(api)
        assert (await enter(api, session, await phone.code())).json() == {"verified": True}


async def test_the_text_is_in_the_customer_s_language_and_ends_for_browsers(
    api: httpx.AsyncClient, connection: asyncpg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    await connection.execute("update public.stores set storefront_url = 'https://kits.example.com'")
    await begin(api, locale="si-LK")
    await settled(connection)
    printed = capfd.readouterr().err
    assert "කේතය" in printed
    assert re.search(r"\n\n@kits\.example\.com #\d{6}\n", printed)
    assert await connection.fetchval("select segments from mirror.sms_deliveries") == 2


async def test_two_who_wait_for_one_code_may_both_enter_it_and_one_is_let_in(
    api: httpx.AsyncClient, phone: Phone
) -> None:
    first, second = await begin(api), await begin(api, by="198.51.100.1")
    code = await phone.code()
    answers = await asyncio.gather(*(enter(api, session, code) for session in (first, second)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 1}


# What is refused


async def test_a_wrong_code_is_told_with_the_attempts_left_and_after_five_there_are_none(
    api: httpx.AsyncClient, phone: Phone
) -> None:
    session = await begin(api)
    code = await phone.code()
    for left in (4, 3, 2, 1, 0):
        answer = await enter(api, session, wrong(code))
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
        assert (answer.json()["code"], answer.json()["attempts_left"]) == ("wrong-code", left)
    locked = await enter(api, session, code)
    assert (locked.status_code, locked.json()["code"], locked.json()["attempts_left"]) == (429, "too-many-attempts", 0)


async def test_guesses_at_once_over_several_processes_are_five(database: str, secrets: None, phone: Phone) -> None:
    async with serving(database) as one, serving(database) as two:
        session = await begin(one)
        code = await phone.code()
        guesses = [wrong(code)] * 40
        answers = await asyncio.gather(*(enter((one, two)[n % 2], session, guess) for n, guess in enumerate(guesses)))
        assert Counter(answer.json()["code"] for answer in answers) == {"wrong-code": 5, "too-many-attempts": 35}


async def test_a_code_is_used_once(api: httpx.AsyncClient, phone: Phone) -> None:
    session = await begin(api)
    code = await phone.code()
    answers = await asyncio.gather(*(enter(api, session, code) for _ in range(4)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 3}
    again = await enter(api, session, code)
    assert (again.status_code, again.json()["code"]) == (410, "code-expired")


async def test_an_unknown_session_is_an_expired_one(api: httpx.AsyncClient) -> None:
    answer = await enter(api, "x" * 43, "123456")
    assert (answer.status_code, answer.json()["code"]) == (410, "code-expired")


async def test_asking_too_often_says_when_to_ask_again(api: httpx.AsyncClient) -> None:
    for _ in range(2):
        await begin(api)
    answer = await ask(api)
    assert (answer.status_code, answer.json()["code"]) == (429, "too-many-codes")
    assert 0 < answer.json()["resend_in"] == int(answer.headers["retry-after"]) <= 60


async def test_one_address_may_ask_for_so_many_codes_and_whoever_it_names_before_it_does_not_matter(
    api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("update mirror.otp_settings set requester_hourly = 3")
    for number in range(3):
        await begin(api, f"9477123450{number}", by=f"192.0.2.{number}, 203.0.113.7")
    assert (await ask(api, "94771234509", by="192.0.2.9, 203.0.113.7")).status_code == 429
    assert (await ask(api, "94771234509", by="203.0.113.8")).status_code == 202


async def test_what_the_shop_has_no_money_for_is_not_sent(
    api: httpx.AsyncClient, connection: asyncpg.Connection, phone: Phone
) -> None:
    await connection.execute("update mirror.otp_settings set store_daily = 0")
    answer = await ask(api)
    assert (answer.status_code, answer.json()["code"]) == (503, "codes-unavailable")
    assert int(answer.headers["retry-after"]) > 3600
    assert phone.codes() == {}


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"phone": "hello"}, 422, "invalid-phone"),
        ({"phone": ""}, 422, "invalid-phone"),
        ({"phone": "011 234 5678"}, 422, "invalid-phone"),  # a landline
        ({"phone": "+44 7911 123456"}, 422, "unserved-country"),
        ({"phone": PHONE, "purpose": "sweepstake"}, 422, "unknown-purpose"),
        ({"phone": PHONE, "store": "nowhere"}, 404, "unknown-store"),
        ({"phone": PHONE, "purpose": "\0"}, 400, "bad-request"),
        ({"phone": "9" * 41}, 400, "bad-request"),
        ({"phone": 94771234567}, 400, "bad-request"),
        ({}, 400, "bad-request"),
    ],
)
async def test_what_cannot_be_served_says_why(
    api: httpx.AsyncClient, fields: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.post("/otp/request", json=fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert PHONE not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"session_id": "x"}', b'{"session_id": "x", "code": "12345"}'])
async def test_what_cannot_be_read_is_a_bad_request(api: httpx.AsyncClient, body: bytes) -> None:
    answer = await api.post("/otp/verify", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


# What nobody learns


async def test_nothing_tells_whether_a_number_is_known(
    api: httpx.AsyncClient, shop: None, connection: asyncpg.Connection
) -> None:
    await connection.execute("update mirror.otp_settings set requester_hourly = 1000, prefix_daily = 1000")
    await connection.execute("update public.customers set phone_number = '9477123' || source_id || '000'")
    known = [row[0] for row in await connection.fetch("select phone_number from public.customers")]
    unknown = ["94779120001", "94779120002"]
    took: dict[bool, list[float]] = {True: [], False: []}
    shapes = set()
    for turn in range(10):
        for number in (known if turn % 2 else unknown) * 2:
            await connection.execute("update public.otp_sessions set sent_at = null")
            await connection.execute("delete from mirror.otp_usage")
            started = time.perf_counter()
            answer = await ask(api, number)
            took[number in known].append(time.perf_counter() - started)
            body = answer.json()
            names = {*answer.headers} - {
                "ratelimit"
            }  # it comes when half of what one address may is used, whatever for
            shapes.add((answer.status_code, *sorted(names), *sorted(body), body["expires_in"], body["resend_in"]))
            await settled(connection)
    assert len(shapes) == 1
    assert abs(statistics.median(took[True]) - statistics.median(took[False])) < 0.02


async def test_no_code_or_number_gets_into_the_log_or_beyond_the_table_of_sessions(
    network: Proxy,
    secrets: None,
    connection: asyncpg.Connection,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="httpx")
    async with serving(network.dsn) as api:
        session = await begin(api)
        await settled(connection)
        printed = capfd.readouterr().err
        ((_, code),) = SMS.findall(printed)
        await enter(api, session, wrong(code))
        await enter(api, session, code)
        for _ in range(3):
            await ask(api)
        network.cut()
        assert (await ask(api)).status_code == 503
    logged = SMS.sub("", printed) + "".join(capfd.readouterr()) + caplog.text
    assert "otp.refused" in logged
    assert PHONE not in logged
    assert code not in logged
    for table in ("mirror.otp_usage", "mirror.sms_deliveries", "public.otp_sessions"):
        rows = str(await connection.fetch(f"select to_jsonb(t) - '{{id,code_id}}'::text[] from {table} as t"))
        assert f'"{code}"' not in rows
        assert session not in rows
        assert (PHONE in rows) == (table == "public.otp_sessions")


# Beside the rest


async def test_a_text_that_nobody_takes_ends_its_session_and_another_may_be_asked_for(
    database: str, secrets: None, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_SMS", "notifylk")
    for name, value in {"USER_ID": "1", "API_KEY": "k", "SENDER": "NotifyDEMO"}.items():
        monkeypatch.setenv(f"NOTIFYLK_{name}", value)
    async with serving(database) as api:
        session = await begin(api)
        await settled(connection)
        assert (await enter(api, session, "123456")).status_code == 410
        await begin(api)


async def test_a_code_that_was_asked_for_is_sent_before_the_api_ends(
    database: str, connection: asyncpg.Connection
) -> None:
    async with process(database) as (child, api):
        await begin(api)
        child.terminate()
        assert await asyncio.wait_for(child.wait(), 20) == 0
    assert await connection.fetchval("select outcome::text from mirror.sms_deliveries") == "sent"


async def test_a_flood_of_requests_for_codes_does_not_hold_up_hooks(
    database: str, secrets: None, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flood: fifty who ask for codes and enter some without a pause, all allowed, each with a hash to be made."""
    monkeypatch.setenv("MIRROR_LIMIT_CODES", "off")
    await connection.execute("""
        update mirror.otp_settings
        set requester_hourly = 1000000, requester_daily = 1000000, store_daily = 1000000, daily_budget = 1000000
    """)
    numbers = itertools.count()
    stop = asyncio.Event()
    answers: Counter[int] = Counter()

    async def flood(crowd: httpx.AsyncClient) -> None:
        while not stop.is_set():
            number = next(numbers)
            asked = await ask(crowd, f"9477{number % 1000:03}{number // 1000:04}")
            session = asked.json().get("session_id", "none")
            answers.update([asked.status_code, (await enter(crowd, session, "123456")).status_code])

    took = []
    async with process(database) as (_, shop), httpx.AsyncClient(base_url=shop.base_url, timeout=60) as crowd:
        flooding = [asyncio.create_task(flood(crowd)) for _ in range(50)]
        await asyncio.sleep(1)
        for number in range(20):
            started = time.perf_counter()
            assert (await post(shop, body_of(change(f"e{number}")), message_id=f"m{number}")).status_code == 202
            took.append(time.perf_counter() - started)
        stop.set()
        await asyncio.gather(*flooding)
    assert answers[202] > 0
    assert set(answers) <= {202, 410, 422, 503}
    assert statistics.median(took) < 1
    assert max(took) < 5
