"""Customers follow an order in a real Chromium, on a real database and a real server; admins move it meanwhile."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import unquote

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from sync.database import connect
from sync.links import VARIABLE, Links, path_of
from tests.e2e.page.chromium import chromium, window
from tests.factory import customer_changed, order_changed
from tests.flow.serving import SECRETS_VARIABLE, serving
from tests.hooks import SECRET
from tests.mirror import Mirror

CODE, PHONE = "K3QTXZ5VN8PL2M4W", "077 123 4567"
LINK_SECRET = "whsec_" + "bGlua3Mg" * 4
CONFIRMED, DISPATCHED = "We have your order", "Your order is on its way to you"

expect.set_options(timeout=20_000)  # of milliseconds, where other tests keep the machine busy


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture
async def api(
    database: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """An API over a shop with one order."""
    monkeypatch.setenv(VARIABLE, LINK_SECRET)
    monkeypatch.setenv(SECRETS_VARIABLE, SECRET)
    async with connect(database) as door:
        mirror = await Mirror.over(door, connection)
        await mirror.take(customer_changed("1", 1, phoneNumber="+94771234567"), order_changed("1", 1, code=CODE))
    async with serving(database) as client:
        yield client


async def dispatch(connection: asyncpg.Connection) -> None:
    """Do what an admin does in Studio."""
    await connection.execute(
        "update public.order_delivery_status set stage = 'DISPATCHED', tracking_number = 'SLP-1', carrier = 'Express'"
    )


async def fill_in(shown: Page, api: httpx.AsyncClient) -> None:
    await shown.goto(f"{api.base_url}/track?lang=en")
    await shown.get_by_label("Order code").fill(CODE.lower())
    await shown.get_by_label("Phone number").fill(PHONE)
    await shown.get_by_role("button", name="Find my order").click()
    await expect(shown.get_by_role("heading", level=1)).to_have_text(CONFIRMED)


async def test_it_works_without_a_script(
    browser: Browser, api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async with window(browser, java_script_enabled=False) as shown:
        await fill_in(shown, api)
        assert "1,000.00" in await shown.locator(".total").inner_text()
        await dispatch(connection)
        await shown.get_by_role("button", name="Look again").click()
        await expect(shown.get_by_role("heading", level=1)).to_have_text(DISPATCHED)
        await shown.get_by_role("button", name="සිංහල").click()
        await expect(shown.locator("html")).to_have_attribute("lang", "si")
        await expect(shown.locator(".code b")).to_have_text(CODE)


async def test_the_page_changes_by_itself_says_so_and_keeps_the_focus(
    browser: Browser, api: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async with window(browser) as shown:
        await fill_in(shown, api)
        await expect(shown.get_by_text("This page updates by itself")).to_be_visible()
        await expect(shown.get_by_role("button", name="Look again")).to_be_hidden()
        await dispatch(connection)
        await expect(shown.get_by_role("heading", level=1)).to_have_text(DISPATCHED)
        await expect(shown.get_by_role("status")).to_have_text(f"New: {DISPATCHED}")
        await expect(shown).to_have_title(re.compile(DISPATCHED))
        await expect(shown.locator(".total")).to_contain_text("1,000.00")
        await shown.get_by_role("button", name="Copy").focus()
        await connection.execute("update public.order_delivery_status set tracking_number = 'SLP-2'")
        await expect(shown.locator(".number")).to_have_text("SLP-2")
        await expect(shown.get_by_role("button", name="Copy")).to_be_focused()


async def test_a_page_that_nothing_happens_to_asks_once(browser: Browser, api: httpx.AsyncClient) -> None:
    async with window(browser) as shown:
        asked: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        await fill_in(shown, api)
        await expect(shown.get_by_text("This page updates by itself")).to_be_visible()
        await shown.wait_for_timeout(1500)
        assert len(asked) == 3  # the form, the order, its events
        assert "771234567" not in re.sub(r"\D", "", unquote(" ".join(asked[:2]) + asked[2].partition("?t=")[0]))


async def test_a_link_is_followed_too(browser: Browser, api: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    link = Links([LINK_SECRET]).make("default", CODE, seconds=3600)
    async with window(browser) as shown:
        await shown.goto(f"{str(api.base_url).rstrip('/')}{path_of(CODE, link)}&lang=en")
        await expect(shown.get_by_text("This page updates by itself")).to_be_visible()
        await dispatch(connection)
        await expect(shown.get_by_role("heading", level=1)).to_have_text(DISPATCHED)
        assert await shown.locator(".total").count() == 0
        await shown.get_by_role("link", name="Show them with your phone number").click()
        await expect(shown.get_by_label("Order code")).to_have_value(CODE)


async def test_a_server_that_is_away_is_waited_for(browser: Browser, api: httpx.AsyncClient) -> None:
    async with window(browser) as shown:
        await shown.clock.install()
        await shown.route("**/events*", lambda route: route.abort("connectionrefused"))
        await fill_in(shown, api)
        await shown.clock.run_for(11_000)
        await expect(shown.get_by_text("No connection; we keep trying")).to_be_visible()
        await expect(shown.get_by_role("button", name="Look again")).to_be_visible()
        await shown.unroute_all()
        await shown.clock.run_for(60_000)
        await expect(shown.get_by_text("This page updates by itself")).to_be_visible(timeout=20_000)
        await expect(shown.get_by_role("heading", level=1)).to_have_text(CONFIRMED)


async def test_a_link_that_has_expired_asks_for_the_number(browser: Browser, api: httpx.AsyncClient) -> None:
    link = Links([LINK_SECRET]).make("default", CODE, seconds=-5)
    async with window(browser) as shown:
        await shown.goto(f"{str(api.base_url).rstrip('/')}{path_of(CODE, link)}&lang=en")
        await expect(shown.get_by_role("heading", level=1)).to_have_text("This link has expired")
        await shown.get_by_label("Phone number").fill(PHONE)
        await shown.get_by_role("button", name="Find my order").click()
        await expect(shown.get_by_role("heading", level=1)).to_have_text(CONFIRMED)
