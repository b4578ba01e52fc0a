"""`/track`: what customers see who fill in the form or open a link, on a real database and a real server."""

from __future__ import annotations

import html
import re
from urllib.parse import unquote

import asyncpg
import httpx
import pytest

from api.pages.words import WORDS
from sync.database import connect
from sync.links import VARIABLE, Links, path_of
from tests.factory import customer_changed, line, order_changed
from tests.flow.proxy import Proxy
from tests.flow.serving import serving
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

CODE, PHONE = "K3QTXZ5VN8PL2M4W", "077 123 4567"
SECRET = "whsec_" + "bGlua3Mg" * 4
HOSTILE = "</script><script>alert(1)</script>"
EN, SI, TA = WORDS["en"], WORDS["si"], WORDS["ta"]


@pytest.fixture(autouse=True)
async def order(database: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order of a customer with a phone, dispatched."""
    monkeypatch.setenv(VARIABLE, SECRET)
    variant = {"sku": "KIT-M", "name": HOSTILE, "product": {"name": HOSTILE}}
    async with connect(database) as door:
        mirror = await Mirror.over(door, connection)
        await mirror.take(
            customer_changed("1", 1, phoneNumber="+94771234567"),
            order_changed("1", 1, code=CODE, lines=[line("1", productVariant=variant)]),
        )
    await connection.execute(
        "update public.stores set name = 'Signature Kits', accent_color = '#C8102E', "
        'carrier_links = \'{"Trans Express": "https://carrier.example/{number}"}\''
    )
    await connection.execute(
        "update public.order_delivery_status "
        "set stage = 'DISPATCHED', tracking_number = 'SLP 1', carrier = 'trans express'"
    )


async def fill_in(api: httpx.AsyncClient, code: str = CODE, phone: str = PHONE, **fields: str) -> httpx.Response:
    return await api.post("/track", data={"code": code, "phone": phone, **fields})


def said(answer: httpx.Response) -> str:
    (heading,) = re.findall("<h1>(.*?)</h1>", answer.text)
    return html.unescape(heading)


def link(*, seconds: int = 3600, code: str = CODE, store: str = "default") -> str:
    return Links([SECRET]).make(store, code, seconds=seconds)


async def test_the_form_asks_for_a_code_and_a_number(api: httpx.AsyncClient) -> None:
    answer = await api.get("/track")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 'data-initial="S"></b><span>Signature Kits</span>' in answer.text
    assert said(answer) == "Where is my order?"
    assert "--brand:#c8102e" in answer.text


ODD_FORM = (
    b'--a\r\nContent-Disposition: form-data; name="code"\r\n'
    b"Content-Type: text/plain; charset=%b\r\n\r\n\xff\r\n--a--\r\n"
)


@both_doors
async def test_whoever_fills_in_the_form_sees_the_order(api: httpx.AsyncClient) -> None:
    answer = await fill_in(api)
    assert answer.status_code == 200
    assert said(answer) == "Your order is on its way to you"
    assert 'href="https://carrier.example/SLP%201"' in answer.text
    assert "LKR\u00a01,000.00" in answer.text
    assert html.escape(HOSTILE) in answer.text
    assert HOSTILE not in answer.text


async def test_the_page_is_kept_nowhere_and_tells_nobody(api: httpx.AsyncClient) -> None:
    for answer in (await api.get("/track"), await fill_in(api), await fill_in(api, "NONE")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-robots-tag"] == "noindex, nofollow"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert "set-cookie" not in answer.headers


async def test_no_number_is_in_any_address_of_the_page(api: httpx.AsyncClient) -> None:
    page = (await fill_in(api)).text
    addresses = re.findall(r'(?:href|action|data-events)="([^"]*)"', page)
    assert len(addresses) >= 4
    assert not [address for address in addresses if "771234567" in re.sub(r"\D", "", unquote(address))]


@pytest.mark.parametrize(
    "code", [CODE.lower(), f" {CODE} ", "K3QT XZ5V N8PL 2M4W", f"#{CODE}", "k3qt\u00a0xz5vn8pl2m4w"]
)
async def test_a_code_may_be_written_as_people_write_it(api: httpx.AsyncClient, code: str) -> None:
    assert (await fill_in(api, code)).status_code == 200


@pytest.mark.parametrize(("code", "phone"), [(CODE, "077 999 9999"), ("NOSUCH", PHONE), (CODE, "hello"), ("\0", "\0")])
async def test_what_is_not_found_is_said_kindly(api: httpx.AsyncClient, code: str, phone: str) -> None:
    answer = await fill_in(api, code, phone)
    assert (answer.status_code, said(answer)) == (404, EN.text("not_found.heading"))
    assert f'value="{code}"' in answer.text


async def test_what_is_missing_is_marked(api: httpx.AsyncClient) -> None:
    answer = await fill_in(api, "", PHONE)
    assert (answer.status_code, said(answer)) == (400, EN.text("missing.heading"))
    assert EN.text("form.code_missing") in answer.text
    assert EN.text("form.phone_missing") not in answer.text


@pytest.mark.parametrize(
    "request_",
    [
        {"content": b"{}", "headers": {"content-type": "application/json"}},
        {"content": b"code=" + b"a" * 20_000, "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": b"\xff\xfe%ff", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": b""},
        {"content": ODD_FORM % b"nope", "headers": {"content-type": "multipart/form-data; boundary=a"}},
        {"content": ODD_FORM % b"utf-8", "headers": {"content-type": "multipart/form-data; boundary=a"}},
        {"content": b"--", "headers": {"content-type": "multipart/form-data; boundary="}},
    ],
)
async def test_a_form_that_is_none_gets_the_form(api: httpx.AsyncClient, request_: dict[str, object]) -> None:
    answer = await api.post("/track", **request_)  # type: ignore[arg-type]
    assert answer.status_code in {400, 413}
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert 'name="phone"' in answer.text


async def test_a_link_shows_the_order_without_what_tells_of_people(api: httpx.AsyncClient) -> None:
    answer = await api.get(path_of(CODE, link()))
    assert (answer.status_code, said(answer)) == (200, "Your order is on its way to you")
    assert "1,000.00" not in answer.text
    assert f'href="/track?code={CODE}"' in answer.text


async def test_a_link_that_does_not_hold_leads_to_the_form_with_the_code_filled_in(api: httpx.AsyncClient) -> None:
    expired = await api.get(path_of(CODE, link(seconds=-5)))
    forged = await api.get(path_of(CODE, link(code="OTHER")))
    without = await api.get(f"/track/{CODE}")
    assert [answer.status_code for answer in (expired, forged, without)] == [410, 404, 200]
    assert said(expired) == EN.text("expired_link.heading")
    assert said(forged) == EN.text("broken_link.heading")
    assert said(without) == EN.text("form.heading")
    for answer in (expired, forged, without):
        assert f'name="code" value="{CODE}"' in answer.text


async def test_the_language_is_chosen_then_accepted_then_the_stores(
    api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("update public.stores set locale = 'ta-LK'")
    accept = {"accept-language": "si-LK, en;q=0.5"}
    assert said(await api.get("/track")) == TA.text("form.heading")
    assert said(await api.get("/track", headers=accept)) == SI.text("form.heading")
    assert said(await api.get("/track?lang=en", headers=accept)) == EN.text("form.heading")
    assert said(await fill_in(api, lang="si")) == SI.text("stages.DISPATCHED.headline")
    assert said(await api.get(path_of(CODE, link()) + "&lang=en")) == EN.text("stages.DISPATCHED.headline")


async def test_each_store_has_a_page_of_its_own(api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    await connection.execute(
        "insert into public.stores (slug, name, currency, phone_region, timezone, locale, accent_color) "
        "values ('second', 'Second Shop', 'INR', 'IN', 'Asia/Kolkata', 'ta', '#00aa55')"
    )
    second = await api.get("/track?store=second")
    assert "<span>Second Shop</span>" in second.text
    assert said(second) == TA.text("form.heading")
    assert '<input type="hidden" name="store" value="second">' in second.text
    assert (await fill_in(api, store="second")).status_code == 404
    assert (await fill_in(api, store="default")).status_code == 200
    assert (await api.get(path_of(CODE, link(), "default"))).status_code == 200
    assert (await api.get(path_of(CODE, link(), "second"))).status_code == 404
    nowhere = await api.get("/track?store=nowhere")
    assert (nowhere.status_code, said(nowhere)) == (404, EN.text("unknown_store.heading"))


async def test_a_database_that_is_away_is_a_page_and_no_number_gets_into_the_log(
    network: Proxy, secrets: None, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(network.dsn) as api:
        assert (await fill_in(api)).status_code == 200
        network.cut()
        away = await fill_in(api)
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    assert said(away) == EN.text("unavailable.heading")
    assert "Signature Kits" in away.text
    assert f'value="{PHONE}"' in away.text
    output = "".join(capfd.readouterr()) + caplog.text
    assert "api.unavailable" in output
    assert "1234567" not in output.replace(" ", "")


async def test_a_database_that_was_never_there_is_a_page(network: Proxy, secrets: None) -> None:
    async with serving(network.dsn) as api:
        network.cut()
        away = await api.get("/track", headers={"accept-language": "si"})
    assert (away.status_code, said(away)) == (503, SI.text("unavailable.heading"))


async def test_an_error_of_ours_is_a_page_that_tells_nothing(
    api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("drop function mirror.track_orders")
    answer = await fill_in(api)
    assert (answer.status_code, said(answer)) == (500, EN.text("unavailable.heading"))
    assert "track_orders" not in answer.text


async def test_too_many_tries_are_said_in_the_shops_name_and_lose_nothing_that_was_entered(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_LIMIT_TRACKING", "2/60")
    async with serving(database) as api:
        answers = [await fill_in(api, lang="si") for _ in range(3)]
    last = answers[-1]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert said(last) == SI.text("too_many.heading")
    assert SI.text("too_many.wait", n=1) in last.text
    assert "<span>Signature Kits</span>" in last.text
    assert f'value="{PHONE}"' in last.text
    assert 0 < int(last.headers["retry-after"]) <= 60


async def test_too_many_guesses_are_a_page_too(database: str, secrets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_LIMIT_GUESSES", "2/600")
    async with serving(database) as api:
        guesses = [await fill_in(api, phone="077 999 9999") for _ in range(3)]
    assert [answer.status_code for answer in guesses] == [404, 404, 429]
    assert said(guesses[-1]) == EN.text("too_many.heading")
    assert f'value="{CODE}"' in guesses[-1].text


async def test_a_code_may_have_a_slash(api: httpx.AsyncClient, mirror: Mirror) -> None:
    code = "2026/17 ü"
    await mirror.take(order_changed("2", 1, code=code))
    for answer in (await fill_in(api, code=code), await api.get(path_of(code, link(code=code)))):
        assert answer.status_code == 200, said(answer)
        (events,) = re.findall(r'"(/orders/[^"]*/events\?[^"]*)"', html.unescape(answer.text))
        async with api.stream("GET", events) as stream:
            assert stream.status_code == 200
    told = await api.get("/orders/2026%2f17%20%C3%BC", params={"phone": PHONE})
    assert (told.status_code, told.json()["order_code"]) == (200, code)
    assert (await api.get("/orders/2026/17%20%C3%BC", params={"phone": PHONE})).status_code == 404
