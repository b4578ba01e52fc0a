"""Debian's Chromium, driven by Playwright: the same letters and colours on every machine.

Nothing is skipped: where Chromium or the fonts are missing, the tests fail and say what to do.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, Route, async_playwright

from tests.pages import EVENTS, page, visit

EXECUTABLE = Path("/usr/bin/chromium")
FONTS = Path("/usr/share/fonts/truetype/noto")
NEEDED = ("NotoSans-Regular.ttf", "NotoSansSinhala-Regular.ttf", "NotoSansTamil-Regular.ttf")
SWITCHES = ["--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb"]

SIZES = {"phone": (390, 844), "desktop": (1280, 860)}
ADDRESS = "https://mirror.example/track"


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a browser."""
    missing = [path for path in (EXECUTABLE, *(FONTS / name for name in NEEDED)) if not path.exists()]
    if missing:
        raise RuntimeError(f"{missing[0]} is missing: run this with `uv run task test:e2e`, which installs it.")
    environment: Any = {**os.environ, "FONTCONFIG_FILE": str(Path(__file__).with_name("fonts.conf"))}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=EXECUTABLE, args=SWITCHES, env=environment)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def window(browser: Browser, size: str = "phone", scheme: Any = "light", **how: Any) -> AsyncIterator[Page]:
    """Open a page that fails the test when a script fails or the page's own policy is violated."""
    width, height = SIZES[size]
    context = await browser.new_context(
        **{"viewport": {"width": width, "height": height}, "color_scheme": scheme, "reduced_motion": "reduce", **how}
    )
    wrong: list[str] = []
    shown = await context.new_page()
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("console", lambda message: wrong.append(message.text) if _is_wrong(message.text) else None)
    try:
        yield shown
    finally:
        await context.close()
    assert not wrong


async def show(shown: Page, state: str, language: str = "en", **store: Any) -> None:
    """Show the page in a state, with the headers that it is sent with."""

    async def answer(route: Route) -> None:
        if route.request.url.endswith(EVENTS):
            await route.fulfill(status=204)
        else:
            await route.fulfill(
                body=page(state, language, **store),
                headers={**visit(state, language, **store).headers, "content-type": "text/html; charset=utf-8"},
            )

    await shown.unroute_all()
    await shown.route("**/*", answer)
    await shown.goto(ADDRESS)


def _is_wrong(message: str) -> bool:
    return any(sign in message for sign in ("Content Security Policy", "Trusted", "Uncaught"))
