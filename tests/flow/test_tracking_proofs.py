"""`GET /orders/{code}` by token and by link: what they open, and what they do not."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from api.settings import TokenSettings
from api.tokens import Tokens
from sync.links import Links
from sync.token_keys import make_token_key, read_token_key
from tests.database.postgrest import acting_as, authenticator
from tests.database.shop import pre_order
from tests.factory import customer_changed, order_changed
from tests.flow.serving import serving
from tests.mirror import Mirror
from tests.postgres import TestServer
from tests.rest.gateway import both_doors

KEY, OTHER_KEY = make_token_key(), make_token_key()
LINK_SECRET = "whsec_" + "s" * 44
MINE, OTHERS = "94771234567", "94777654321"
CODES = [f"CODE{number}" for number in range(1, 7)]


@pytest.fixture(autouse=True)
def edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_TOKEN_KEY", KEY)
    monkeypatch.setenv("MIRROR_LINK_SECRET", LINK_SECRET)


@pytest.fixture
async def shop(mirror: Mirror) -> uuid.UUID:
    """A store's orders: of a proved customer, of another, of a guest, of one with that number who proved nothing, a
    deleted one, and one whose customer is deleted. Return the store's id.
    """
    printed = pre_order("x", customFields={"patchEnabled": True, "printName": "NIMAL", "printNumber": "7"})
    address = {"fullName": "Nimal Perera", "streetLine1": "4/1 Temple Lane", "phoneNumber": MINE}
    await mirror.take(
        customer_changed("1", 1, phoneNumber=MINE), customer_changed("2", 1, phoneNumber=OTHERS),
        customer_changed("4", 1, phoneNumber="94770000004"),
    )  # fmt: skip
    await mirror.take(
        order_changed("1", 1, customer={"id": "1"}, lines=[printed], shippingAddress=address),
        order_changed("2", 1, customer={"id": "2"}, shippingAddress=address),
        order_changed("3", 1, customer=None, shippingAddress=address),
        order_changed("4", 1, customer={"id": "4"}), order_changed("5", 1, customer={"id": "1"}),
        order_changed("6", 1, customer={"id": "1"}),
    )  # fmt: skip
    run = mirror.connection.execute
    await run("update public.customers set phone_verified = source_id in ('1', '2')")
    await run("update public.customer_orders_summary set deleted_at = now() where source_id = '6'")
    found: uuid.UUID = await mirror.connection.fetchval("select mirror.default_store_id()")
    return found


@pytest.fixture
async def data_api(server: TestServer, connection: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    name = await connection.fetchval("select current_database()")
    async with authenticator(server.superuser(name)) as opened:
        yield opened


def minted(store: uuid.UUID, phone: str = MINE, *, key: str = KEY) -> str:
    settings = TokenSettings(read_token_key(key), "ES256", "commerce-mirror", 3600)
    return Tokens(settings).mint(store, phone).token


async def by_token(api: httpx.AsyncClient, token: str, code: str = "CODE1", **parameters: str) -> httpx.Response:
    return await api.get(f"/orders/{code}", params=parameters, headers={"Authorization": f"Bearer {token}"})


async def by_link(api: httpx.AsyncClient, link: str, code: str = "CODE1", **parameters: str) -> httpx.Response:
    return await api.get(f"/orders/{code}", params={"t": link, **parameters})


def link(code: str = "CODE1", *, seconds: int = 3600, secret: str = LINK_SECRET, store: str = "default") -> str:
    return Links([secret]).make(store, code, seconds=seconds)


# Tokens


@both_doors
async def test_a_token_opens_what_row_level_security_lets_it_see(
    api: httpx.AsyncClient, shop: uuid.UUID, data_api: asyncpg.Connection
) -> None:
    for phone in (MINE, OTHERS, "94770000004", "94779999999"):
        token = minted(shop, phone)
        claims = jwt.decode(token, ECKey.import_key(json.loads(KEY)), algorithms=["ES256"]).claims
        async with acting_as(data_api, claims["role"], claims, method="GET"):
            rows = await data_api.fetch("select order_code from customer_orders_summary")
        answers = {code: (await by_token(api, token, code)).status_code for code in CODES}
        assert {code for code, status in answers.items() if status == 200} == {row[0] for row in rows}
        assert set(answers.values()) <= {200, 404}


async def test_a_customer_sees_all_of_their_order(api: httpx.AsyncClient, shop: uuid.UUID) -> None:
    answer = await by_token(api, minted(shop))
    assert (answer.json()["total_with_tax"], answer.json()["items"][0]["print_name"]) == ("1000.00", "NIMAL")
    by_phone = await api.get("/orders/CODE1", params={"phone": MINE})
    assert (answer.content, answer.headers["etag"]) == (by_phone.content, by_phone.headers["etag"])


async def test_who_has_the_present_version_is_told_no_more_than_that(api: httpx.AsyncClient, shop: uuid.UUID) -> None:
    asked = {"phone": MINE}
    version = (await api.get("/orders/CODE1", params=asked)).headers["etag"]
    for known in (version, f'"another", W/{version}', "*"):
        answer = await api.get("/orders/CODE1", params=asked, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", version)
    other = await api.get("/orders/CODE1", params=asked, headers={"If-None-Match": '"another"'})
    assert (other.status_code, other.headers["etag"]) == (200, version)
    guessed = await api.get("/orders/CODE1", params={"phone": "0770000009"}, headers={"If-None-Match": "*"})
    assert guessed.status_code == 404


async def test_anothers_order_is_as_unknown_as_one_that_there_is_not(api: httpx.AsyncClient, shop: uuid.UUID) -> None:
    token = minted(shop)
    asked: dict[str, tuple[str, dict[str, str]]] = {
        "another's": ("CODE2", {}), "unknown": ("NOSUCH", {}), "another store": ("CODE1", {"store": "elsewhere"})
    }  # fmt: skip
    took: dict[str, list[float]] = {name: [] for name in asked}
    bodies = set()
    for _ in range(5):
        for name, (code, parameters) in asked.items():
            started = time.perf_counter()
            bodies.add((await by_token(api, token, code, **parameters)).content)
            took[name].append(time.perf_counter() - started)
    assert bodies == {(await api.get("/orders/NOSUCH", params={"phone": "1"})).content}
    medians = [statistics.median(times) for times in took.values()]
    assert min(medians) >= 0.1
    assert max(medians) - min(medians) < 0.05


def altered(store: uuid.UUID, **claims: Any) -> str:
    """Return a token by our key, with other claims."""
    now = int(time.time())
    ours = {
        "iss": "commerce-mirror", "sub": "x", "aud": "authenticated", "role": "authenticated", "iat": now,
        "exp": now + 600, "mirror_store": str(store), "mirror_phone": MINE, **claims,
    }  # fmt: skip
    return jwt.encode({"alg": "ES256"}, ours, read_token_key(KEY), algorithms=["ES256"])


def unsigned(store: uuid.UUID) -> str:
    head, body, _ = altered(store).split(".")
    return f"eyJhbGciOiJub25lIn0.{body}." if head else ""


async def test_a_token_that_does_not_hold_is_refused(api: httpx.AsyncClient, shop: uuid.UUID) -> None:
    assert (await by_token(api, altered(shop))).status_code == 200
    legacy = jwt.encode({"alg": "HS256"}, {"exp": time.time() + 600}, OctKey.import_key("x" * 32), algorithms=["HS256"])
    good = minted(shop)
    for wrong in (
        "x", "a.b.c", "a" * 5000, good[:-4] + "AAAA", good + "x", minted(shop, key=OTHER_KEY), legacy, unsigned(shop),
        altered(shop, exp=int(time.time()) - 1), altered(shop, exp=None), altered(shop, iss="https://elsewhere"),
        altered(shop, aud="anon"), altered(shop, role="service_role"), altered(shop, mirror_store="x"),
        altered(shop, mirror_store=None), altered(shop, mirror_phone=None), altered(shop, mirror_phone=7),
    ):  # fmt: skip
        answer = await by_token(api, wrong, phone=MINE)
        assert (wrong, answer.status_code) == (wrong, 401)
        assert answer.json()["code"] == "bad-token"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_tokens_by_the_key_before_hold_on(
    database: str, secrets: None, shop: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = minted(shop)
    monkeypatch.setenv("MIRROR_TOKEN_KEY", OTHER_KEY)
    async with serving(database) as api:
        assert (await by_token(api, old)).status_code == 401
    monkeypatch.setenv("MIRROR_TOKEN_OLD_KEY", KEY)
    async with serving(database) as api:
        assert (await by_token(api, old)).status_code == 200


async def test_without_a_key_no_token_holds(
    database: str, secrets: None, shop: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = minted(shop)
    monkeypatch.delenv("MIRROR_TOKEN_KEY")
    async with serving(database) as api:
        assert (await by_token(api, token)).status_code == 401


# Links


@both_doors
async def test_a_link_opens_its_order_without_what_tells_of_people(api: httpx.AsyncClient, shop: uuid.UUID) -> None:
    answer = await by_link(api, link())
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json()["items"][0]["product_name"]
    by_phone = await api.get("/orders/CODE1", params={"phone": MINE})
    assert answer.headers["etag"] == by_phone.headers["etag"]  # the page compares the two
    for personal in ("NIMAL", "Nimal", "Perera", "Temple", MINE[2:], "1000", "example.com"):
        assert personal not in answer.text


async def test_a_link_that_is_not_right_is_like_an_order_that_there_is_not(
    api: httpx.AsyncClient, shop: uuid.UUID
) -> None:
    wrong = {
        "forged": ("CODE1", link(secret="x" * 44)), "another's": ("CODE2", link()), "nonsense": ("CODE1", "x"),
        "unknown order": ("NOSUCH", link("NOSUCH")), "deleted": ("CODE6", link("CODE6")), "empty": ("CODE1", ""),
        "another store": ("CODE1", link(store="elsewhere")), "long": ("CODE1", "9" * 5000),
    }  # fmt: skip
    took: dict[str, list[float]] = {name: [] for name in wrong}
    bodies = set()
    for _ in range(5):
        for name, (code, t) in wrong.items():
            started = time.perf_counter()
            bodies.add((await by_link(api, t, code)).content)
            took[name].append(time.perf_counter() - started)
    assert bodies == {(await api.get("/orders/NOSUCH", params={"phone": "1"})).content}
    medians = [statistics.median(times) for times in took.values()]
    assert min(medians) >= 0.1
    assert max(medians) - min(medians) < 0.05


async def test_an_expired_link_says_so_whether_or_not_there_is_such_an_order(
    api: httpx.AsyncClient, shop: uuid.UUID
) -> None:
    for code in ("CODE1", "NOSUCH"):
        answer = await by_link(api, link(code, seconds=-1), code)
        assert (answer.status_code, answer.json()["code"]) == (410, "link-expired")


async def test_without_a_secret_links_are_not_guessed(
    database: str, secrets: None, shop: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIRROR_LINK_SECRET")
    async with serving(database) as api:
        for secret in (LINK_SECRET, "", " "):
            assert (await by_link(api, link(secret=secret))).status_code == 404
