"""The page as HTML: one document with its style and script inside, so that a slow network needs one round trip.

A strict policy (CSP) allows that one style and that one script, by their hashes, and nothing else: if a hostile product
name ever got past the escaping, the browser would still not run it.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from api.pages.colours import Palette, palettes
from api.pages.words import WORDS, Words

NEUTRAL = "#3d4653"
"""The accent where no store is known."""

_templates = Environment(
    loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_folder = files(__package__)
_STYLE = (_folder / "page.css").read_text("utf-8")
_SCRIPT = (_folder / "page.js").read_text("utf-8")
_LIGHT = {"late": "#ffe9bf", "late-ink": "#4a3100", "wrong": "#b3261e"}
_DARK = {"late": "#4a3508", "late-ink": "#ffe3b0", "wrong": "#ff9d94"}


class Look(msgspec.Struct, frozen=True):
    """What a store's accent makes of the page."""

    light: Palette
    dark: Palette
    style: str
    icon: str
    policy: str
    """The Content-Security-Policy that goes with it."""


class Shop(msgspec.Struct, frozen=True):
    """A store, as its name stands at the top."""

    name: str
    url: str | None

    @property
    def initial(self) -> str:
        return next((letter.upper() for letter in self.name if letter.isalnum()), "•")


def render(template: str, words: Words, shop: Shop, look: Look, **values: Any) -> str:
    """Return a page."""
    return _templates.get_template(template).render(
        **values,
        words=words,
        t=words.text,
        languages=WORDS.items(),
        shop=shop,
        light=look.light,
        dark=look.dark,
        icon=look.icon,
        style=_safe(look.style),
        script=_safe(_SCRIPT),
    )


@lru_cache(maxsize=1000)
def look(accent: str) -> Look:
    """Return the look of a store with this accent."""
    light, dark = palettes(accent)
    style = (
        f":root{{color-scheme:light dark;{_properties(light, _LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{_properties(dark, _DARK)}}}}}\n{_STYLE}"
    )
    return Look(light, dark, style, _icon(light), _policy(style))


def _properties(palette: Palette, fixed: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in (msgspec.structs.asdict(palette) | dict(fixed)).items())


def _icon(palette: Palette) -> str:
    """Return a parcel in the store's colour."""
    return (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'>"
        f"<rect width='24' height='24' rx='7' fill='{palette.brand}'/>"
        "<path d='M6 9l6-3 6 3v6l-6 3-6-3zM6 9l6 3 6-3M12 12v6' fill='none' stroke-width='1.5' "
        f"stroke='{palette.on}'/></svg>"
    )


def _policy(style: str) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(_SCRIPT)}'",
            "connect-src 'self'",
            "img-src data:",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _safe(text: str) -> Markup:
    """Mark our own text as fit for HTML: it was never anybody else's."""
    return Markup(text)  # noqa: S704
