"""`/track`: the page on which customers see where their order is. A form, or a link that the shop sent; no account.

Whoever fills in the form posts it, so that no phone number gets into an address, a log or a browser's history. The
answer is the page itself: there is nothing to redirect to without the number in it. Forging such a request from another
site (CSRF) gains nothing: it changes nothing, the browser adds no credentials to it (the page knows no cookies), and
the other site cannot read the answer.
"""

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
from litestar import MediaType, Request, Response, Router, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body, FromPath, FromQuery

from api.pages.languages import chosen_language, spoken
from api.pages.troubles import dressed, note_visit
from api.pages.visit import PATH, Proof, Visit
from api.pages.words import WORDS
from api.problems import UnknownOrderError, UnknownStoreError
from api.stores import Stores
from api.tracking.orders import Orders
from api.tracking.told import TrackedOrder
from sync.links import Links

LIVE_SECONDS = 2 * 3600
"""How long the page that a phone number opened can listen for news; then it asks again with the number."""

MAX_CODE, MAX_PHONE = 100, 40
"""Characters of what was entered that count; nobody's code or number has more."""

AnyRequest = Request[Any, Any, Any]
OfStore = FromQuery[str | None]
Form = Body(media_type=RequestEncodingType.URL_ENCODED)


class Entered(msgspec.Struct):
    """The form, as it was posted."""

    code: str = ""
    phone: str = ""
    store: str | None = None
    lang: str | None = None


def pages_router(orders: Orders, stores: Stores, links: Links) -> Router:
    """Return the routes of the page."""

    @get("/")
    async def show_form(request: AnyRequest, code: FromQuery[str] = "", store: OfStore = None) -> Response[str]:
        return await _form(request, stores, code, store)

    @post("/", status_code=200)
    async def show_by_phone(request: AnyRequest, data: Annotated[Entered, Form]) -> Response[str]:
        proof = Proof.phone(data.store or None, _trimmed(data.code, MAX_CODE), _trimmed(data.phone, MAX_PHONE))
        visit = await _visit(request, stores, proof, data.lang)
        if {"code", "phone"} - proof.fields.keys():
            return _page(visit, visit.form(proof, "missing"), status=400)
        order = await _find(orders, proof)
        link = links.make(visit.slug, order.order_code, seconds=LIVE_SECONDS)
        return _page(visit, visit.order(order, proof, events=_events(order, link, data.store)))

    @get("/{code:str}")
    async def show_by_link(
        request: AnyRequest, code: FromPath[str], t: FromQuery[str | None] = None, store: OfStore = None
    ) -> Response[str]:
        if t is None:
            return await _form(request, stores, code, store)
        proof = Proof.link(store, code, t)
        visit = await _visit(request, stores, proof)
        order = await orders.find_by_link(code, link=t, store=store)
        return _page(visit, visit.order(order, proof, events=_events(order, t, store)))

    return Router(
        PATH,
        route_handlers=[show_form, show_by_phone, show_by_link],
        exception_handlers=dressed(),
        include_in_schema=False,
    )


async def _form(request: AnyRequest, stores: Stores, code: str, store: str | None) -> Response[str]:
    proof = Proof.nothing(store, _trimmed(code, MAX_CODE))
    visit = await _visit(request, stores, proof)
    return _page(visit, visit.form(proof))


async def _visit(request: AnyRequest, stores: Stores, proof: Proof, lang: str | None = None) -> Visit:
    """Return the visit that a request is, and note it for whoever tells of an error."""
    chosen = spoken(lang or request.query_params.get("lang"))
    accepted = request.headers.get("accept-language")
    note_visit(request, Visit(None, WORDS[chosen_language(chosen, accepted, None)], chosen, datetime.now(UTC)), proof)
    store = await stores.find(proof.fields.get("store"))
    if store is None:
        raise UnknownStoreError
    words = WORDS[chosen_language(chosen, accepted, store.locale)]
    visit = Visit(store, words, chosen, datetime.now(UTC))
    note_visit(request, visit, proof)
    return visit


async def _find(orders: Orders, proof: Proof) -> TrackedOrder:
    """Return the order that was asked for by phone, its code written as people write it."""
    code, phone, store = (proof.fields.get(name) for name in ("code", "phone", "store"))
    *others, last = _spellings(code or "")
    for spelling in others:
        try:
            return await orders.find(spelling, phone=phone or "", store=store)
        except UnknownOrderError:
            continue
    return await orders.find(last, phone=phone or "", store=store)


def _spellings(code: str) -> list[str]:
    """Return what may be meant by a code: phones write small letters and add spaces, people a # before it."""
    return list(dict.fromkeys([code, "".join(code.split()).removeprefix("#").upper() or code]))


def _events(order: TrackedOrder, link: str, store: str | None) -> str:
    """Return where the news of an order are listened to: by a link, as a browser's EventSource can send no more."""
    named = {"t": link} if store is None else {"t": link, "store": store}
    return f"/orders/{quote(order.order_code, safe='')}/events?{urlencode(named)}"


def _page(visit: Visit, html: str, *, status: int = 200) -> Response[str]:
    return Response(html, media_type=MediaType.HTML, status_code=status, headers=visit.headers)


def _trimmed(text: str, length: int) -> str:
    return text.strip()[:length]
