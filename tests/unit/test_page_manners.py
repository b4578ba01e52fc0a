"""The page's manners: which language it speaks, how it writes dates and money, what it makes of a store's colour."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.pages.colours import contrast, palettes
from api.pages.formats import Formats
from api.pages.languages import chosen_language

NOW = datetime(2026, 12, 5, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("chosen", "accepted", "locale", "language"),
    [
        ("ta", "si", "en", "ta"),
        ("TA-LK", None, None, "ta"),
        ("fr", "si-LK,en;q=0.5", "ta", "si"),
        (None, "fr, de;q=0.9, ta;q=0.4, en;q=0.3", "si", "ta"),
        (None, "en;q=0.2, si;q=0.8", None, "si"),
        (None, "si;q=0, *", "ta_LK", "ta"),
        (None, "fr", "si_LK", "si"),
        (None, "q=;;,,;q=x", "de", "en"),
        ("", "", "", "en"),
        (None, "si;q=nan, ta;q=0.1", None, "ta"),
        (None, ("x," * 5000) + "ta", "si", "si"),
    ],
)
def test_the_language_is_chosen_then_accepted_then_the_stores(
    chosen: str | None, accepted: str | None, locale: str | None, language: str
) -> None:
    assert chosen_language(chosen, accepted, locale) == language


@given(st.text(), st.text(), st.text())
def test_any_header_leads_to_a_language(chosen: str, accepted: str, locale: str) -> None:
    assert chosen_language(chosen, accepted, locale) in {"en", "si", "ta"}


@pytest.mark.parametrize(
    ("language", "region", "amount", "currency", "written"),
    [
        ("en", "LK", "24850.00", "LKR", "LKR 24,850.00"),
        ("si", "LK", "24850.00", "LKR", "රු.24,850.00"),
        ("ta", "LK", "24850.00", "LKR", "Rs.24,850.00"),
        ("en", "US", "12.5", "USD", "$12.50"),
        ("en", "GB", "1234567.8", "GBP", "£1,234,567.80"),
        ("en", "IN", "1234567.00", "INR", "₹12,34,567.00"),
        ("en", "JP", "1200", "JPY", "JP¥1,200"),
        ("en", "KW", "1.2340", "KWD", "KWD 1.234"),
        ("en", "ZZ", "3", "XQQ", "XQQ 3.00"),
    ],
)
def test_money_is_written_as_its_readers_write_it(
    language: str, region: str, amount: str, currency: str, written: str
) -> None:
    assert Formats(language, region, "UTC").money(amount, currency).replace("\u00a0", " ") == written


def test_a_day_is_the_day_at_the_store() -> None:
    late = datetime(2026, 12, 4, 19, 0, tzinfo=UTC)
    assert Formats("en", "LK", "Asia/Colombo").moment(late, NOW).startswith("Sat, 5 Dec, 12:30")
    assert Formats("en", "US", "America/New_York").moment(late, NOW).startswith("Fri, Dec 4, 2:00")
    assert Formats("si", "LK", "Asia/Colombo").moment(late, NOW) == "දෙසැ 5 සෙන, 00.30"
    assert Formats("ta", "LK", "Asia/Colombo").moment(late, NOW) == "டிச. 5, சனி, 00:30"


def test_another_year_is_named() -> None:
    formats = Formats("en", "LK", "Asia/Colombo")
    assert formats.day(date(2026, 12, 31), NOW) == "31 December"
    assert formats.day(date(2027, 1, 2), NOW) == "2 January 2027"
    across = formats.interval(NOW.replace(day=30), NOW.replace(year=2027, month=1, day=3), NOW)
    assert across.replace("\u2009", " ") == "31 Dec 2026 \u2013 4 Jan 2027"


def test_a_time_zone_that_is_none_is_utc() -> None:
    assert Formats("en", "LK", "Nowhere/City").zone() == "UTC"
    assert Formats("en", "LK", "../../etc/passwd").zone() == "UTC"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 0xFFFFFF))
@example(0x000000)
@example(0xFFFFFF)
@example(0xFFFF00)
@example(0x777777)
@example(0x00FF00)
@example(0x0000FF)
def test_every_accent_is_readable_in_light_and_dark(accent: int) -> None:
    for palette in palettes(f"#{accent:06x}"):
        for ground in (palette.page, palette.card, palette.wash):
            assert min(contrast(text, ground) for text in (palette.ink, palette.mute, palette.link)) >= 4.5
            assert contrast(palette.edge, ground) >= 3
        assert contrast(palette.on, palette.brand) >= 4.5
        assert contrast(palette.dim, palette.brand) >= 3
        assert contrast("#ffffff", palette.off) >= 4.5


def test_an_accent_that_is_readable_stays_as_it_is() -> None:
    light, dark = palettes("#2457d6")
    assert (light.brand, light.link, dark.brand) == ("#2457d6", "#2457d6", "#2457d6")
