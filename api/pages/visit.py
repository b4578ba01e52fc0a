"""Somebody at the page: in which language they read, and in which shop's name and colours; and what they get to see."""

from datetime import datetime
from typing import Literal
from urllib.parse import quote, urlencode

import msgspec

from api.errors import UnknownStoreError
from api.pages.formats import Formats
from api.pages.looks import NEUTRAL, Look, Shop, look, render
from api.pages.story import Teller, web_address
from api.pages.words import Words
from api.stores import Store
from api.tracking.told import TrackedOrder

PATH = "/track"

Trouble = Literal["missing", "not_found", "expired_link", "broken_link", "unavailable", "too_many", "unknown_store"]


class Proof(msgspec.Struct, frozen=True):
    """What an order is asked for with, so that it can be asked for again: in another language, or for news."""

    method: Literal["get", "post"]
    action: str
    fields: dict[str, str]
    store: str | None = None
    code: str = ""

    @classmethod
    def nothing(cls, store: str | None = None, code: str = "") -> "Proof":
        """Return how one asks for the form."""
        return cls("get", PATH, _given(store=store, code=code), store, code)

    @classmethod
    def phone(cls, store: str | None, code: str, phone: str) -> "Proof":
        """Return how one asks with a phone number: in a body, so that it gets into no address and no log."""
        return cls("post", PATH, _given(store=store, code=code, phone=phone), store, code)

    @classmethod
    def link(cls, store: str | None, code: str, t: str) -> "Proof":
        """Return how one asks with a link."""
        return cls("get", f"{PATH}/{quote(code, safe='')}", _given(store=store, t=t), store, code)

    @property
    def is_complete(self) -> bool:
        """Return whether it can prove anything."""
        return "t" in self.fields or {"code", "phone"} <= self.fields.keys()


class Visit:
    """Somebody who looks at the page of a store; of None while no store is known."""

    def __init__(self, store: Store | None, words: Words, chosen: str | None, now: datetime) -> None:
        self._store = store
        self._words = words
        self._chosen = chosen
        self._now = now

    def form(self, proof: Proof, trouble: Trouble | None = None, *, wait: int | None = None) -> str:
        """Return the page that asks for code and phone number, or says what went wrong and asks anew."""
        state = trouble or "form"
        return render(
            "form.html",
            self._words,
            self._shop,
            self._look,
            title=self._words.text(f"{state}.heading"),
            state=state,
            again=proof,
            kept=_given(store=proof.store, lang=self._chosen),
            code=proof.code,
            phone=proof.fields.get("phone", ""),
            wait=wait,
        )

    def order(self, order: TrackedOrder, proof: Proof, *, events: str | None) -> str:
        """Return the page that tells an order; `events` is where its news are listened to."""
        if self._store is None:
            raise UnknownStoreError
        formats = Formats(self._words.language, self._store.phone_region, self._store.timezone)
        return render(
            "order.html",
            self._words,
            self._shop,
            self._look,
            title=self._words.text("cancelled.headline" if order.cancelled_at else f"stages.{order.stage}.headline"),
            order=Teller(self._words, formats, self._store.name, self._now).tell(order),
            again=proof,
            chosen=self._chosen,
            events=events,
            by_phone=self._by_phone(order, proof) if proof.method == "get" else None,
            zone=formats.zone(),
        )

    @property
    def slug(self) -> str:
        return self._store.slug if self._store else ""

    @property
    def headers(self) -> dict[str, str]:
        """Return what goes with the page: it is kept nowhere, found by no search, and says nothing to other sites."""
        return {
            "Cache-Control": "no-store",
            "Content-Security-Policy": self._look.policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Robots-Tag": "noindex, nofollow",
        }

    @property
    def _look(self) -> Look:
        return look(self._store.accent_color.lower() if self._store else NEUTRAL)

    @property
    def _shop(self) -> Shop:
        if self._store is None:
            return Shop(self._words.text("site.title"), None)
        return Shop(self._store.name, web_address(self._store.storefront_url))

    def _by_phone(self, order: TrackedOrder, proof: Proof) -> str:
        """Return the address of the form, with the code filled in."""
        fields = _given(store=proof.store, code=order.order_code, lang=self._chosen)
        return f"{PATH}?{urlencode(fields)}"


def _given(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}
