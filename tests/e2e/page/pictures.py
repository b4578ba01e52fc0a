"""Pictures of the page: how it is meant to look. `python -m tests.e2e.page.pictures` takes them anew.

They are compared at half their size, where the edges of letters do not count, by how much of the picture is of another
colour; and they are kept in few colours, which the tolerance allows for.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageChops
from playwright.async_api import Browser

from tests.e2e.page.chromium import chromium, show, window

FOLDER = Path(__file__).with_name("pictures")
COLOURS = 32
DIFFERENCE = 40
"""Of 255: by so much a colour may differ and be the same."""
TOLERANCE = 0.002
"""Of the picture: so much may be of another colour. A line of text that is another one is more."""


class Picture(NamedTuple):
    """What to take a picture of."""

    state: str
    language: str
    size: str
    scheme: str

    @property
    def file(self) -> Path:
        return FOLDER / f"{'-'.join(self)}.png"


def pictures() -> Iterator[Picture]:
    """Yield what there are pictures of: every state, and each language, size and scheme for some."""
    states = ("form", "confirmed", "sourcing", "arrived", "dispatched", "delivered", "delayed", "cancelled")
    for state in (*states, "not_found", "by_link"):
        yield Picture(state, "en", "phone", "light")
    for state in ("form", "dispatched", "cancelled"):
        yield Picture(state, "en", "phone", "dark")
    for language in ("si", "ta"):
        for state in ("form", "confirmed", "dispatched"):
            yield Picture(state, language, "phone", "light")
    yield Picture("form", "en", "desktop", "light")
    yield Picture("dispatched", "en", "desktop", "light")
    yield Picture("sourcing", "ta", "desktop", "dark")


async def take(browser: Browser, *wanted: Picture) -> AsyncIterator[tuple[Picture, Image.Image]]:
    """Yield the page as it looks now."""
    for (size, scheme), alike in groupby(wanted, lambda picture: (picture.size, picture.scheme)):
        async with window(browser, size, scheme) as shown:
            for picture in alike:
                await show(shown, picture.state, picture.language)
                taken = await shown.screenshot(full_page=True)
                yield picture, Image.open(io.BytesIO(taken)).convert("RGB")


def kept(picture: Picture) -> Image.Image:
    """Return the page as it is meant to look."""
    return Image.open(picture.file).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return how much of two pictures is of another colour: 0 to 1."""
    if abs(one.height - other.height) > 2 or one.width != other.width:
        return 1.0
    halves = [image.resize((one.width // 2, one.height // 2), Image.Resampling.BOX) for image in (one, other)]
    channels = ImageChops.difference(*halves).split()
    largest = ImageChops.lighter(ImageChops.lighter(*channels[:2]), channels[2])
    return float(sum(largest.histogram()[DIFFERENCE + 1 :]) / (largest.width * largest.height))


async def _take_all() -> None:
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    async with chromium() as browser:
        async for picture, taken in take(browser, *pictures()):
            taken.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
                picture.file, optimize=True
            )


if __name__ == "__main__":
    asyncio.run(_take_all())
