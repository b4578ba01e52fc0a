"""The page in a real Chromium: it looks as it is meant to, keeps nobody out, and obeys its own policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from api.pages.words import LANGUAGES
from tests.e2e.npm_project import install
from tests.e2e.page.chromium import chromium, show, window
from tests.e2e.page.pictures import TOLERANCE, Picture, difference, kept, pictures, take
from tests.pages import STATES

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SOME = ("form", "missing", "confirmed", "dispatched", "delayed")
ACCENTS = ("#ffe600", "#ffffff", "#000000", "#808080", "#00c389")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    return (install(Path(__file__).with_name("axe")) / "axe-core" / "axe.min.js").read_text()


async def found(shown: Page, axe: str) -> list[str]:
    """Return what axe finds: rule and element."""
    await shown.evaluate(axe)
    results = await shown.evaluate("rules => axe.run({runOnly: rules})", RULES)
    return [f"{rule['id']}: {node['html']}" for rule in results["violations"] for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_any_state(browser: Browser, axe: str, scheme: str) -> None:
    for size, states in (("phone", STATES), ("desktop", SOME)):
        async with window(browser, size, scheme) as shown:
            for state in states:
                await show(shown, state)
                assert await found(shown, axe) == [], (state, size)


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
async def test_axe_finds_nothing_in_any_language(browser: Browser, axe: str, language: str) -> None:
    async with window(browser) as shown:
        for state in SOME:
            await show(shown, state, language)
            assert await found(shown, axe) == [], state


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_whatever_colour_a_store_sets(browser: Browser, axe: str, scheme: str) -> None:
    async with window(browser, "phone", scheme) as shown:
        for accent in ACCENTS:
            for state in ("confirmed", "not_found"):
                await show(shown, state, accent_color=accent)
                assert await found(shown, axe) == [], (accent, state)


async def test_the_page_looks_as_it_is_meant_to(browser: Browser, tmp_path: Path) -> None:
    differences = {}
    async for picture, taken in take(browser, *pictures()):
        differences[picture.file.name] = difference(taken, kept(picture))
        if differences[picture.file.name] > TOLERANCE:
            taken.save(tmp_path / picture.file.name)
    wrong = {name: f"{share:.2%}" for name, share in differences.items() if share > TOLERANCE}
    assert not wrong, f"as they are now: {tmp_path}; if they are right: uv run task test:page:pictures"


async def test_another_page_is_seen_to_be_another(browser: Browser) -> None:
    states = ("delivered", "dispatched", "delayed", "cancelled")
    delivered, *others = (Picture(state, "en", "phone", "light") for state in states)
    _, taken = await anext(take(browser, delivered))
    for other in others:
        assert difference(taken, kept(other)) > TOLERANCE
    moved = taken.crop((0, 2, taken.width, taken.height + 2))
    assert difference(taken, taken) == 0
    assert difference(taken, moved) > TOLERANCE


async def test_nothing_is_wider_than_the_window(browser: Browser) -> None:
    async with window(browser) as shown:
        for state, language in product(SOME, LANGUAGES):
            await show(shown, state, language, name="The Longest Name of a Shop in Colombo")
            for width in (320, 360, 700, 830, 900, 1100):
                await shown.set_viewport_size({"width": width, "height": 700})
                assert await shown.evaluate("document.documentElement.scrollWidth") <= width, (state, language)


async def test_nothing_moves_for_whoever_wants_no_motion(browser: Browser) -> None:
    for motion, moving in (("reduce", False), ("no-preference", True)):
        async with window(browser, reduced_motion=motion) as shown:
            await show(shown, "dispatched")
            assert bool(await shown.evaluate("document.getAnimations().length")) is moving


async def test_every_control_is_large_enough_for_a_thumb(browser: Browser) -> None:
    async with window(browser) as shown:
        for state in ("form", "dispatched", "by_link"):
            await show(shown, state)
            for control in await shown.locator("button:visible, a.button, a.shop, input:visible").all():
                box = await control.bounding_box()
                assert box is not None
                assert min(box["width"], box["height"]) >= 36, await control.inner_text()


async def test_the_form_is_filled_in_by_keyboard(browser: Browser) -> None:
    async with window(browser) as shown:
        await show(shown, "form", storefront_url=None)
        order = []
        for _ in range(6):
            await shown.keyboard.press("Tab")
            order.append(await shown.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert order == ["English", "සිංහල", "தமிழ்", "code", "phone", "Find my order"]


async def test_what_is_printed_is_the_order(browser: Browser) -> None:
    async with window(browser) as shown:
        await show(shown, "dispatched")
        await shown.emulate_media(media="print")
        assert await shown.locator("h1, .number, .total").count() == 3
        for element in await shown.locator("h1, .number, .total").all():
            assert await element.is_visible()
        for element in await shown.locator(".tongues, .fresh, .way, .button").all():
            assert not await element.is_visible()
