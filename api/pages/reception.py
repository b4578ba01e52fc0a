"""Whoever comes to the page is received before anything is counted, looked up or refused.

So whatever goes wrong afterwards is said in their language, in the shop's name, and with what they had entered.
"""

from datetime import UTC, datetime
from typing import Any, TypeGuard

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from api.edge.slashes import with_slashes
from api.errors import UnknownStoreError
from api.pages.languages import chosen_language, spoken
from api.pages.visit import Proof, Visit
from api.pages.words import WORDS
from api.stores import Store, Stores

MAX_CODE, MAX_PHONE = 100, 40
"""Characters of what was entered that count; nobody's code or number has more."""

AnyConnection = ASGIConnection[Any, Any, Any, Any]


def receiving(stores: Stores) -> Guard:
    """Return the guard that knows who comes; it lets everybody in."""

    async def receive(request: AnyConnection, _: BaseRouteHandler) -> None:
        entered = await _entered(request)
        given = dict(request.query_params) | entered
        slug, code = given.get("store") or None, with_slashes(request.path_params.get("code") or given.get("code", ""))
        proof = _proof(slug, code.strip()[:MAX_CODE], given, is_posted=_is_posted(request))
        chosen = spoken(given.get("lang"))
        _note(request, None, chosen, proof)
        store = await stores.find(slug)
        if store is None:
            raise UnknownStoreError
        _note(request, store, chosen, proof)

    return receive


def visit_of(request: AnyConnection) -> tuple[Visit, Proof]:
    """Return who came, and what with; somebody that nothing is known of, if it went wrong before."""
    if "visit" not in request.scope["state"]:
        _note(request, None, None, Proof.nothing())
    visit: tuple[Visit, Proof] = request.scope["state"]["visit"]
    return visit


def _proof(store: str | None, code: str, given: dict[str, str], *, is_posted: bool) -> Proof:
    if is_posted:
        return Proof.phone(store, code, given.get("phone", "").strip()[:MAX_PHONE])
    if given.get("t"):
        return Proof.link(store, code, given["t"])
    return Proof.nothing(store, code)


async def _entered(request: AnyConnection) -> dict[str, str]:
    """Return what the form was filled in with; nothing of what is no form of ours."""
    if not _is_posted(request):
        return {}
    try:
        form = await request.form()
    except (LookupError, UnicodeError):  # it names an encoding that there is not, or is in another one
        return {}
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _is_posted(request: AnyConnection) -> TypeGuard[Request[Any, Any, Any]]:
    return isinstance(request, Request) and request.method == "POST"


def _note(request: AnyConnection, store: Store | None, chosen: str | None, proof: Proof) -> None:
    language = chosen_language(chosen, request.headers.get("accept-language"), store.locale if store else None)
    request.scope["state"]["visit"] = Visit(store, WORDS[language], chosen, datetime.now(UTC)), proof
