"""A store's accent colour made readable: whatever it is, every text keeps the contrast that WCAG 2.2 AA asks for.

The hue is the store's; lightness gives way until the contrast is there, in light and in dark. The greys of the page
have a breath of the same hue.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import count

import msgspec
from coloraide import Color

TEXT = 4.6
"""WCAG 1.4.3 asks for 4.5 between a text and what is behind it; the rest is for rounding."""
GRAPHIC = 3.1
"""WCAG 1.4.11 asks for 3 of what a control or a graphic needs to be seen."""
STEP = 0.01


class Palette(msgspec.Struct, frozen=True):
    """The colours of the page in light or dark, as #rrggbb; each becomes a property of the same name in CSS."""

    page: str
    card: str
    line: str
    """Between things; tells nothing."""
    edge: str
    """Of a field: seen on the card."""
    ink: str
    mute: str
    """Text that may stand back, on page and card."""
    brand: str
    """The panel that everything begins with; a button."""
    on: str
    """Text on the brand."""
    dim: str
    """Graphics on the brand that stand back, and are still seen."""
    off: str
    """The panel of what is over, for text in white."""
    link: str
    """Text and graphics in the accent, on page and card."""
    wash: str
    """A card with a breath of the accent."""


@lru_cache(maxsize=1000)
def palettes(accent: str) -> tuple[Palette, Palette]:
    """Return the palettes for light and dark that a store's accent leads to."""
    return _palette(accent, dark=False), _palette(accent, dark=True)


def _palette(accent: str, *, dark: bool) -> Palette:
    page, card, wash = (_grey(accent, at, 0.5) for at in ((0.17, 0.215, 0.25) if dark else (0.968, 1, 0.945)))
    grounds = (page, card, wash)
    brand = _brand(accent, dark=dark)
    on = _on(brand)
    return Palette(
        page=page,
        card=card,
        wash=wash,
        line=_grey(accent, 0.31 if dark else 0.9, 1),
        edge=_until(_grey(accent, 0.5 if dark else 0.62, 1), GRAPHIC, grounds, lighter=dark),
        ink=_grey(accent, 0.96 if dark else 0.22, 1),
        mute=_until(_grey(accent, 0.74 if dark else 0.47, 1), TEXT, grounds, lighter=dark),
        brand=brand,
        on=on,
        dim=_until(_mixed(brand, on), GRAPHIC, (brand,), lighter=on == "#ffffff"),
        off=_grey(accent, 0.36 if dark else 0.3, 1),
        link=_until(accent, TEXT, grounds, lighter=dark),
    )


def _brand(accent: str, *, dark: bool) -> str:
    """Return the accent as a ground for text; in the dark not too bright, and still seen."""
    lowest, highest = (0.38, 0.55) if dark else (0.3, 0.92)
    colour = Color(accent).convert("oklch")
    colour["lightness"] = min(max(colour["lightness"], lowest), highest)
    for candidate in _lightnesses(colour, lighter=False):
        if contrast(candidate, _on(candidate)) >= TEXT:
            return candidate
    raise AssertionError("black and white have contrast to everything")


def _on(ground: str) -> str:
    """Return white or nearly black: what is read better on a ground. White may do with less, as it looks calmer."""
    return "#ffffff" if contrast(ground, "#ffffff") >= TEXT else "#111111"


def _until(colour: str, ratio: float, grounds: tuple[str, ...], *, lighter: bool) -> str:
    """Return a colour made lighter or darker until it has a contrast to all grounds."""
    for candidate in _lightnesses(Color(colour).convert("oklch"), lighter=lighter):
        if min(contrast(candidate, ground) for ground in grounds) >= ratio:
            return candidate
    raise AssertionError(f"no lightness of {colour} has contrast to {grounds}")


def _lightnesses(colour: Color, *, lighter: bool) -> Iterator[str]:
    """Yield a colour in OKLCH lighter or darker by steps, to the end."""
    start = colour["lightness"]
    for step in count():
        at = start + step * (STEP if lighter else -STEP)
        yield _hex(colour.clone().set("lightness", min(max(at, 0.0), 1.0)))
        if not 0.0 <= at <= 1.0:
            return


def _grey(accent: str, lightness: float, strength: float) -> str:
    """Return a grey with a breath of the accent's hue."""
    colour = Color(accent).convert("oklch")
    chroma = min(colour["chroma"], 0.022) * strength
    return _hex(colour.set("lightness", lightness).set("chroma", chroma))


def _mixed(ground: str, on: str) -> str:
    return _hex(Color(ground).mix(on, 0.4, space="oklab"))


def _hex(colour: Color) -> str:
    return str(colour.convert("srgb").fit("srgb", method="oklch-chroma").to_string(hex=True, fit=False))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 counts it: 1 to 21."""
    return float(Color(one).contrast(other))
