"""Links to the tracking page: whoever has the secret makes them, for one order and for a time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sync.links import BadLinkError, Links, OldLinkError, path_of

SECRET, OTHER = "whsec_" + "a" * 44, "whsec_" + "b" * 44
DOCS = Path(__file__).parents[2] / "docs"
NOW, DAY = 1_800_000_000, 24 * 3600


def links(*secrets: str, at: float = NOW) -> Links:
    return Links(secrets or (SECRET,), clock=lambda: at)


def signed(secret: str, store: str, code: str, expires: object) -> str:
    """Sign whatever it is."""
    digest = hmac.new(secret.encode(), f"track:{store}:{code}:{expires}".encode(), hashlib.sha256).digest()
    return f"{expires}.{base64.urlsafe_b64encode(digest).decode()[:22]}"


@pytest.mark.parametrize("code", ["K3QTXZ5VN8PL2M4W", "a:b", "ö/7?&", "\ud800"])
def test_a_link_is_right_until_it_expires(code: str) -> None:
    link = links().make("default", code, seconds=DAY)
    links(at=NOW + DAY - 1).check(link, "default", code)
    with pytest.raises(OldLinkError):
        links(at=NOW + DAY).check(link, "default", code)


def test_a_shop_makes_links_by_what_the_guide_says() -> None:
    recipe = DOCS.joinpath("tracking.md").read_text().partition("```python\n")[2].partition("```")[0]
    known: dict[str, Any] = {}
    exec(recipe, known)  # noqa: S102 - it is our own guide
    made = urlsplit(known["track_link"](SECRET, "KIT 7/ü", store="other", days=2))
    assert made.path == "/track/KIT%207%2F%C3%BC"
    expires = Links([SECRET]).check(parse_qs(made.query)["t"][0], "other", "KIT 7/ü")
    assert abs(expires - time.time() - 2 * DAY) < 60


def test_a_link_is_for_one_order_of_one_store() -> None:
    link = links().make("default", "KIT7", seconds=DAY)
    for store, code in [("default", "KIT8"), ("other", "KIT7"), ("", "KIT7"), ("default", "kit7"), ("default", "")]:
        with pytest.raises(BadLinkError):
            links().check(link, store, code)


def test_no_link_but_the_one_that_was_made_is_right() -> None:
    link = links().make("default", "KIT7", seconds=DAY)
    later = f"{NOW + 2 * DAY}{link[10:]}"
    for forged in ("", ".", "x", link[:-1], link + "A", link.swapcase(), later, " " + link, link + "\n", "é" + link):
        with pytest.raises(BadLinkError):
            links().check(forged, "default", "KIT7")


@pytest.mark.parametrize("expires", [(NOW + DAY) * 1000, NOW + 367 * DAY, "never", "", "-1", f"{NOW + DAY}.0", "١٢"])
def test_what_is_no_time_within_a_year_is_no_link_though_rightly_signed(expires: object) -> None:
    with pytest.raises(BadLinkError):
        links().check(signed(SECRET, "default", "KIT7", expires), "default", "KIT7")


def test_two_secrets_hold_at_once_and_the_first_one_signs() -> None:
    old = links(OTHER).make("default", "KIT7", seconds=DAY)
    both = links(SECRET, OTHER)
    both.check(old, "default", "KIT7")
    new = both.make("default", "KIT7", seconds=DAY)
    links(SECRET).check(new, "default", "KIT7")
    with pytest.raises(BadLinkError):
        links(OTHER).check(new, "default", "KIT7")


def test_the_address_has_the_store_where_it_is_not_the_first_one() -> None:
    assert path_of("a/b ü", "1.x") == "/track/a%2Fb%20%C3%BC?t=1.x"
    assert path_of("KIT7", "1.x", "other") == "/track/KIT7?t=1.x&store=other"
