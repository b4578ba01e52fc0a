"""The words of a code, and what they cost to send."""

from __future__ import annotations

from uuid import UUID

import pytest
from msgspec.structs import replace

from api.sms.segments import segments
from api.sms.texts import WORDS, code_text
from api.stores import Store

STORE = Store(
    id=UUID(int=1),
    slug="default",
    name="Signature Kits",
    phone_region="LK",
    locale="en",
    storefront_url="https://www.kits.example.com/shop",
    code_seconds=300,
    currency="LKR",
    timezone="Asia/Colombo",
    accent_color="#2457d6",
    carrier_links={},
    allowed_origins=[],
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "€" + "a" * 152, 3),  # the sign does not fit the first message, and moves what follows
        ("@$_Δ\n", 1),
        ("ක" * 70, 1),
        ("ක" * 71, 2),
        ("ක" * 134, 2),
        ("ක" * 135, 3),
        ("`" + "a" * 70, 2),  # one character that GSM lacks makes all of it UCS-2
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 67, 3),  # 33 a message: none is split
    ],
)
def test_a_text_is_counted_as_networks_do(text: str, count: int) -> None:
    assert segments(text) == count


@pytest.mark.parametrize("language", WORDS)
def test_every_language_has_the_code_the_shop_and_the_line_for_browsers(language: str) -> None:
    text = code_text(STORE, "012345", language, seconds=300)
    words, blank, last = text.split("\n")
    assert "012345" in words
    assert "Signature Kits" in words
    assert "5" in words.replace("012345", "")
    assert (blank, last) == ("", "@www.kits.example.com #012345")


def test_english_is_one_message_and_the_others_two() -> None:
    counts = {language: segments(code_text(STORE, "012345", language, seconds=300)) for language in WORDS}
    assert counts == {"en": 1, "si": 2, "ta": 3}


@pytest.mark.parametrize(
    ("locale", "begins"),
    [("en-GB", "0"), ("si", "S"), ("si-LK", "S"), ("ta_LK", "S"), ("fr", "0"), (None, "0"), ("", "0"), ("SI", "S")],
)
def test_the_language_is_the_customer_s_else_the_store_s(locale: str | None, begins: str) -> None:
    assert code_text(STORE, "012345", locale, seconds=300)[0] == begins


def test_a_store_without_an_address_has_no_line_for_browsers() -> None:
    store = replace(STORE, name="A\nB  " + "x" * 100, storefront_url=None)
    text = code_text(store, "012345", None, seconds=90)
    assert "\n" not in text
    assert "A B " + "x" * 26 + "." in text
    assert "1 minute" in text
