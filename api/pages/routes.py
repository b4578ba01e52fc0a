"""`/track`: the page on which customers see where their order is. A form, or a link that the shop sent; no account.

Whoever fills in the form posts it, so that no phone number gets into an address, a log or a browser's history. The
answer is the page itself: there is nothing to redirect to without the number in it. Forging such a request from another
site (CSRF) gains nothing: it changes nothing, the browser adds no credentials to it (the page knows no cookies), and
the other site cannot read the answer.
"""

from typing import Any
from urllib.parse import quote, urlencode

from litestar import MediaType, Request, Response, Router, get, post
from litestar.types import Guard

from api.errors import UnknownOrderError
from api.pages.reception import receiving, visit_of
from api.pages.troubles import dressed
from api.pages.visit import PATH, Proof, Visit
from api.stores import Stores
from api.tracking.orders import Orders
from api.tracking.told import TrackedOrder
from sync.links import Links

LIVE_SECONDS = 2 * 3600
"""How long the page that a phone number opened can listen for news; then it asks again with the number."""

AnyRequest = Request[Any, Any, Any]


def pages_router(orders: Orders, stores: Stores, links: Links, limited: Guard) -> Router:
    """Return the routes of the page; `limited` counts who comes."""

    @get("/")
    async def show_form(request: AnyRequest) -> Response[str]:
        visit, proof = visit_of(request)
        return _page(visit, visit.form(proof))

    @post("/", status_code=200)
    async def show_by_phone(request: AnyRequest) -> Response[str]:
        visit, proof = visit_of(request)
        if not proof.is_complete:
            return _page(visit, visit.form(proof, "missing"), status=400)
        order = await _find(orders, proof)
        link = links.make(visit.slug, order.order_code, seconds=LIVE_SECONDS)
        return _page(visit, visit.order(order, proof, events=_events(order, link, proof.store)))

    @get("/{code:str}")
    async def show_by_link(request: AnyRequest) -> Response[str]:
        visit, proof = visit_of(request)
        if not proof.is_complete:
            return _page(visit, visit.form(proof))
        link = proof.fields["t"]
        order = await orders.find_by_link(proof.code, link=link, store=proof.store)
        return _page(visit, visit.order(order, proof, events=_events(order, link, proof.store)))

    return Router(
        PATH,
        route_handlers=[show_form, show_by_phone, show_by_link],
        guards=[receiving(stores), limited],
        exception_handlers=dressed(),
        include_in_schema=False,
    )


async def _find(orders: Orders, proof: Proof) -> TrackedOrder:
    """Return the order that was asked for by phone, its code written as people write it."""
    phone = proof.fields["phone"]
    *others, last = _spellings(proof.code)
    for spelling in others:
        try:
            return await orders.find(spelling, phone=phone, store=proof.store)
        except UnknownOrderError:
            continue
    return await orders.find(last, phone=phone, store=proof.store)


def _spellings(code: str) -> list[str]:
    """Return what may be meant by a code: phones write small letters and add spaces, people a # before it."""
    return list(dict.fromkeys(["".join(code.split()).removeprefix("#").upper() or code, code]))


def _events(order: TrackedOrder, link: str, store: str | None) -> str:
    """Return where the news of an order are listened to: by a link, as a browser's EventSource can send no more."""
    named = {"t": link} if store is None else {"t": link, "store": store}
    return f"/orders/{quote(order.order_code, safe='')}/events?{urlencode(named)}"


def _page(visit: Visit, html: str, *, status: int = 200) -> Response[str]:
    return Response(html, media_type=MediaType.HTML, status_code=status, headers=visit.headers)
