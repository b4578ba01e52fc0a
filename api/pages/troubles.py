"""Errors in friendly words: what would be problem details elsewhere is a page here, with the form to go on from.

Status, `Retry-After` and the line in the log are those of `api.answers`; only what people see differs.
"""

import math
from typing import Any

from litestar import MediaType, Request, Response
from litestar.types import ExceptionHandlersMap

from api.answers import exception_handlers
from api.errors import ExpiredLinkError, UnknownOrderError, UnknownStoreError
from api.pages.reception import visit_of
from api.pages.visit import Proof, Trouble

AnyRequest = Request[Any, Any, Any]


def dressed() -> ExceptionHandlersMap:
    """Return what answers every error of the page with a page."""
    plain = exception_handlers()

    def answer(request: AnyRequest, error: Exception) -> Response[str]:
        visit, proof = visit_of(request)
        told = next(plain[kind] for kind in type(error).__mro__ if kind in plain)(request, error)
        trouble, status = _trouble(error, proof, told.status_code or 500)
        wait = told.headers.get("Retry-After")
        html = visit.form(proof, trouble, wait=math.ceil(int(wait) / 60) if wait else None)
        headers = visit.headers | ({"Retry-After": wait} if wait else {})
        return Response(html, media_type=MediaType.HTML, status_code=status, headers=headers)

    return dict.fromkeys(plain, answer)


def _trouble(error: Exception, proof: Proof, status: int) -> tuple[Trouble, int]:
    match error:
        case UnknownOrderError():
            return "not_found" if proof.method == "post" else "broken_link", status
        case ExpiredLinkError():
            return "expired_link", status
        case UnknownStoreError():
            return "unknown_store", status
    if status == 429:
        return "too_many", status
    return ("missing" if status < 500 else "unavailable"), status
