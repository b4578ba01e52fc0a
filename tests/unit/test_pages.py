"""The tracking page as HTML: what it says in every state and language, and what it never lets through."""

from __future__ import annotations

import base64
import hashlib
import re
import string
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

import api.pages
from api.pages.visit import Proof, Visit
from api.pages.words import DEFAULT, LANGUAGES, WORDS, Words
from api.tracking.told import Expected
from tests.pages import BY_PHONE, ORDER_STATES, STATES, WITH_LINK, draw, page, visit
from tests.told import BATCH, CODE, ITEMS, NOW, ORDERS, PHONE, STORE, told

FOLDER = Path(api.pages.__path__[0])
MAX_BYTES = 30_000
SCRIPTS = {"en": "A-Za-z", "si": "\u0d80-\u0dff", "ta": "\u0b80-\u0bff"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"


class Noted(dict[str, str]):
    """Words, and which of them were asked for."""

    def __init__(self, words: Mapping[str, str]) -> None:
        super().__init__(words)
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)


def between(first: int, last: int, *, based_on: int = 48) -> Expected:
    return Expected("DELIVERED", NOW.replace(day=first), NOW.replace(day=last), based_on)


class Text(HTMLParser):
    """What somebody who reads the page is told, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._silent = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in {"style", "script"}

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in {"style", "script"}

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


every_state = pytest.mark.parametrize("state", STATES)
every_language = pytest.mark.parametrize("language", LANGUAGES)


@every_language
def test_every_language_has_every_word_with_the_same_places(language: str) -> None:
    def places(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}

    assert WORDS[language].by_key.keys() == WORDS[DEFAULT].by_key.keys()
    for key, text in WORDS[language].by_key.items():
        assert text.strip() == text != "", key
        assert places(text) == places(WORDS[DEFAULT].by_key[key]), key


@pytest.mark.parametrize("language", ["si", "ta"])
def test_no_word_is_left_in_english(language: str) -> None:
    for key, text in WORDS[language].by_key.items():
        said = re.sub(r"\{\w+\}", "", text)
        assert not re.search("[A-Za-z]", said), key
        assert re.search(f"[{SCRIPTS[language]}]", said) or not re.search(r"\w", said), key
        foreign = "".join(letters for other, letters in SCRIPTS.items() if other != language)
        assert not re.search(f"[{foreign}]", said), key


def test_every_word_is_said_somewhere() -> None:
    said = Noted(WORDS["en"].by_key)
    for state in STATES:
        draw(state, Visit(None if state == "unknown_store" else STORE, Words("en", said), "en", NOW))
    told_otherwise = [
        told(1, batch=msgspec.structs.replace(BATCH, state=state, orders=count, target=target))
        for state in ("collecting", "orderedFromSupplier", "inTransit", "arrived")
        for count, target in ((1, None), (2, 2))
    ]
    told_otherwise += [told(4, carrier=None), told(5, items=ITEMS * 20), told(5, items=[*ITEMS * 8, *ITEMS[:2]])]
    told_otherwise += [told(4, expected=between(first, 7, based_on=based_on)) for first, based_on in ((5, 1), (7, 2))]
    for order in told_otherwise:
        Visit(STORE, Words("en", said), "en", NOW).order(order, BY_PHONE, events=None)
    for wait in (None, 1):
        Visit(STORE, Words("en", said), "en", NOW).form(BY_PHONE, "too_many", wait=wait)
    Visit(STORE, Words("en", said), "en", NOW).form(Proof.phone(None, "", PHONE), "missing")
    assert said.keys() - said.asked == {"name"}  # which the switch says of the others


@every_language
@every_state
def test_a_page_speaks_one_language(state: str, language: str) -> None:
    html = page(state, language, name="Σ", carrier_links={})
    seen = Text(html)
    assert seen.all("html") == [{"lang": language}]
    text = seen.text
    for known in ("English", "සිංහල", "தமிழ்", *(item.product_name for item in ITEMS), "Trans Express", CODE):
        text = text.replace(known, "")
    others = "".join(letters for other, letters in SCRIPTS.items() if other not in {language, "en"})
    assert not re.search(f"[{others}]", text)


@every_language
@every_state
def test_a_page_is_small(state: str, language: str) -> None:
    assert len(page(state, language).encode()) < MAX_BYTES


@every_language
def test_a_page_stays_small_for_whoever_orders_for_a_club(language: str) -> None:
    order = told(4, items=ITEMS * 40)
    html = visit("dispatched", language).order(order, BY_PHONE, events=None)
    assert len(html.encode()) < MAX_BYTES
    assert WORDS[language].text("order.more", n=95) in html


@every_state
def test_a_page_brings_everything_it_needs(state: str) -> None:
    seen = Text(page(state))
    assert not [tag for tag, attributes in seen.tags if {"src", "srcset", "background"} & attributes.keys()]
    assert [link["href"][:5] for link in seen.all("link") if link["href"]] == ["data:"]
    assert not [tag for tag, attributes in seen.tags if any(name.startswith("on") for name in attributes)]
    assert not [tag for tag, attributes in seen.tags if "style" in attributes]


@every_state
def test_the_policy_allows_this_style_and_this_script_and_no_other(state: str) -> None:
    html = page(state)
    policy = visit(state).headers["Content-Security-Policy"]
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none';")


@pytest.mark.parametrize("state", ORDER_STATES)
def test_a_page_answers_where_the_order_is_before_anything_else(state: str) -> None:
    html = page(state)
    headline = "cancelled.headline" if state == "cancelled" else f"stages.{ORDERS[state].stage}.headline"
    assert re.findall("<h1>(.*?)</h1>", html) == [WORDS["en"].text(headline)]
    assert html.index("<h1>") < html.index("<h2")


def test_the_timeline_has_five_stages_with_their_times() -> None:
    seen = Text(page("arrived"))
    assert [each["class"] for each in seen.all("li")[:5]] == ["done", "done", "now", "later", "later"]
    assert [time["datetime"] for time in seen.all("time")] == [
        "2026-11-20T15:28+05:30",
        "2026-11-22T09:40+05:30",
        "2026-12-02T16:55+05:30",
    ]
    assert "Now: Arrived with us Wed, 2 Dec, 4:55 pm" in seen.text


def test_what_comes_next_is_a_range_and_no_promise() -> None:
    text = Text(page("dispatched")).text
    assert "Next: Delivered usually 6\u20137 Dec" in text
    assert "An estimate from 48 earlier orders, not a promise." in text


def test_a_day_that_the_shop_names_is_told() -> None:
    assert "expected around 8 December" in Text(page("expected")).text


def test_a_cancelled_order_promises_nothing() -> None:
    seen = Text(page("cancelled"))
    assert [each["class"] for each in seen.all("li")[:3]] == ["done", "done", "off"]
    assert "Next:" not in seen.text
    assert "cancelled on 25 November" in seen.text


def test_a_batch_shows_how_full_it_is() -> None:
    seen = Text(page("confirmed"))
    assert [(bar["max"], bar["value"]) for bar in seen.all("progress")] == [("50", "34")]
    assert "34 of 50 orders" in seen.text
    assert not Text(page("sourcing")).all("progress")


def test_the_carrier_is_linked_from_dispatch_on() -> None:
    linked = [link["href"] for link in Text(page("dispatched")).all("a")]
    assert linked == ["https://shop.example", "https://carrier.example/SLP-200011"]
    assert [link["href"] for link in Text(page("arrived")).all("a")] == ["https://shop.example"]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//elsewhere.example", "", None])
def test_only_web_sites_are_linked(url: str | None) -> None:
    assert not Text(page("form", storefront_url=url)).all("a")
    html = visit("dispatched").order(told(4, carrier_url=url), BY_PHONE, events=None)
    assert [link["href"] for link in Text(html).all("a")] == ["https://shop.example"]


def test_by_link_no_price_and_no_print_is_shown() -> None:
    text = Text(page("by_link")).text
    assert "24,850" not in text
    assert "PERERA" not in text
    assert "stay hidden" in text
    assert "stay hidden" not in Text(page("dispatched")).text


@every_language
def test_hostile_texts_are_texts(language: str) -> None:
    items = [msgspec.structs.replace(ITEMS[0], product_name=HOSTILE, variant_name=HOSTILE * 2)]
    order = told(4, items=items, carrier=HOSTILE, tracking_number=HOSTILE, order_code=HOSTILE, currency="LKR")
    clean = Text(visit("dispatched", language).order(told(4, items=ITEMS[:1]), BY_PHONE, events=None))
    shop = visit("dispatched", language, name=HOSTILE)
    proof = Proof.phone(HOSTILE, HOSTILE, HOSTILE)
    seen = Text(shop.order(order, proof, events=HOSTILE))
    assert seen.text.count(HOSTILE) >= 6
    hidden = 2  # the store, in both forms
    assert len(seen.tags) == len(clean.tags) + hidden
    assert [tag for tag, _ in Text(shop.form(proof, "not_found")).tags].count("script") == 1


def test_the_form_keeps_what_was_entered() -> None:
    fields = {field["name"]: field["value"] for field in Text(page("not_found")).all("input")}
    assert fields == {"lang": "en", "code": CODE, "phone": PHONE}


def test_a_number_is_sent_in_a_body_only() -> None:
    for state in STATES:
        for form in Text(page(state)).all("form"):
            assert form["method"] == ("get" if state in {"form", "by_link"} and form.get("id") != "ask" else "post")


@pytest.mark.parametrize(("days", "said"), [(0, "by 7 December"), (1, "6\u20137 Dec"), (2, "around 7 December")])
def test_a_range_is_said_as_people_say_it(days: int, said: str) -> None:
    html = visit("dispatched").order(told(4, expected=between(5 + days, 7)), BY_PHONE, events=None)
    assert f"usually {said}" in Text(html).text


def test_a_link_asks_again_with_the_link() -> None:
    html = visit("by_link").order(told(4, total_with_tax=None), WITH_LINK, events=None)
    (again,) = [form for form in Text(html).all("form") if form.get("id") == "again"]
    assert (again["method"], again["action"]) == ("get", f"/track/{CODE}")
