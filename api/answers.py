"""Errors as answers: the only place where an error becomes HTTP. What is told is in `api/problems.py`.

The log tells the route, never the address: addresses hold order codes and phone numbers.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from api.errors import CodesUnavailableError, MalformedHookError, TooManyCodesError
from api.metrics import PROBLEMS as PROBLEMS_COUNT
from api.problems import HTTP_PROBLEMS, INTERNAL, PROBLEMS, Problem
from sync.engines.base import BadSignature
from sync.errors import SyncError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:commerce-mirror:problem:"
CUT_OFF = "client disconnected prematurely"
"""How Litestar says that whoever asked went away in the middle of the body."""

KEPT_HEADERS = ("allow", "www-authenticate")

NOTED: dict[type[Exception], tuple[str, str]] = {
    BadSignature: ("warning", "hook.refused"),
    MalformedHookError: ("warning", "hook.malformed"),
    TooManyCodesError: ("info", "otp.refused"),
    CodesUnavailableError: ("warning", "otp.unavailable"),
}
"""Errors that the mirror's operator wants to know of: level and name of the line in the log."""


def exception_handlers() -> ExceptionHandlersMap:
    """Return what Litestar needs to answer every error with a problem."""
    handlers: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]] = {
        error: _answering(problem) for error, problem in PROBLEMS.items()
    }
    return {**handlers, HTTPException: _http}


def members(problem: Problem, **told: Any) -> dict[str, Any]:
    """Return a problem as the object that is sent; `told` is what is known of this case."""
    extra = {name: told.get(value, value) if isinstance(value, str) else value for name, value in problem.extra.items()}
    return {
        "type": TYPE + problem.code,
        "title": problem.title,
        "status": problem.status.value,
        "detail": problem.detail.format(**told),
        "code": problem.code,
        **extra,
    }


def _answering(problem: Problem) -> Callable[[Request[Any, Any, Any], Exception], Response[Any]]:
    def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        _note(request, problem, error)
        return _response(problem, **vars(error))

    return answer


def _note(request: Request[Any, Any, Any], problem: Problem, error: Exception) -> None:
    """Tell the log what its reader should know of."""
    if noted := NOTED.get(type(error)):
        level, event = noted
        getattr(log, level)(event, route=_route(request), reason=str(error))
    elif isinstance(error, SyncError) and problem is INTERNAL:
        log.error("api.failed", route=_route(request), reason=error.reason)  # its cause may quote a row
    elif problem is INTERNAL:
        log.error("api.failed", route=_route(request), exc_info=error)
    elif problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("api.unavailable", route=_route(request), code=problem.code, reason=str(error))


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer what Litestar itself found: no such route, method or parameter, or too large a body."""
    if error.detail == CUT_OFF:
        log.info("api.cut_off", route=_route(request))
        return _response(HTTP_PROBLEMS[HTTPStatus.REQUEST_TIMEOUT])  # nobody gets it
    status = HTTPStatus(error.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("api.failed", route=_route(request), reason=error.detail)
        return _response(INTERNAL)
    problem = HTTP_PROBLEMS.get(status, HTTP_PROBLEMS[HTTPStatus.BAD_REQUEST])
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
    if "GET" in kept.get("allow", ""):
        kept["allow"] += ", HEAD"  # api/edge/door.py sees to it
    return _response(problem, reason=_what_is_wrong(error), headers=kept)


def _what_is_wrong(error: HTTPException) -> str:
    """Name the parameters that are missing or wrong; the rest of Litestar's message repeats the whole address."""
    if isinstance(error.extra, list) and error.extra:
        return ". ".join(f"{item['key']}: {item['message']}" for item in error.extra)
    return error.detail.partition(" for ")[0]


def _route(request: Request[Any, Any, Any]) -> str:
    return request.scope.get("path_template", "")


def _response(problem: Problem, *, headers: Mapping[str, str] = {}, **told: Any) -> Response[Any]:
    PROBLEMS_COUNT.labels(problem.code).inc()
    if "wait" in told:
        headers = {"Retry-After": str(told["wait"]), **headers}
    return Response(
        members(problem, **told),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **problem.headers, **headers},
    )
