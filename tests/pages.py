"""The page in every state that customers can see it in, for tests that read it and for those that look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from api.pages.visit import Proof, Visit
from api.pages.words import WORDS
from tests.told import BY_LINK, CODE, NOW, ORDERS, PHONE, STORE

BY_PHONE = Proof.phone(None, CODE, PHONE)
WITH_LINK = Proof.link(None, CODE, "1765000000.abcdefghijklmnopqrstuv")
EVENTS = f"/orders/{CODE}/events?t=1765000000.abcdefghijklmnopqrstuv"

ORDER_STATES = tuple(ORDERS)
FORM_STATES = (
    "form",
    "missing",
    "not_found",
    "expired_link",
    "broken_link",
    "unavailable",
    "too_many",
    "unknown_store",
)
STATES = (*ORDER_STATES, "by_link", *FORM_STATES)


def page(state: str, language: str = "en", **store: Any) -> str:
    """Return the page in a state; `store` says what is different about the store."""
    return draw(state, visit(state, language, **store))


def draw(state: str, visit: Visit) -> str:
    """Return what a visit gets to see in a state."""
    return _DRAWN.get(state, _form(state))(visit)


def visit(state: str, language: str = "en", **store: Any) -> Visit:
    known = None if state == "unknown_store" else msgspec.structs.replace(STORE, **store)
    return Visit(known, WORDS[language], language, NOW)


def _order(state: str) -> Callable[[Visit], str]:
    return lambda visit: visit.order(ORDERS[state], BY_PHONE, events=EVENTS)


def _form(state: Any) -> Callable[[Visit], str]:
    return lambda visit: visit.form(BY_PHONE, state, wait=3 if state == "too_many" else None)


_DRAWN: dict[str, Callable[[Visit], str]] = {
    **{state: _order(state) for state in ORDERS},
    "by_link": lambda visit: visit.order(BY_LINK, WITH_LINK, events=EVENTS),
    "form": lambda visit: visit.form(Proof.nothing()),
    "missing": lambda visit: visit.form(Proof.phone(None, CODE, ""), "missing"),
}
