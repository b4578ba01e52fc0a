"""Errors as answers: the only place where an error becomes HTTP (RFC 9457, application/problem+json).

A problem says what is wrong and what to do, to whoever sent the request. What concerns only us goes to the log: no
answer tells about the database, the code or other people's data. `code` is stable; `type` is the same as a URI.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.plugins.problem_details import ProblemDetailsException
from litestar.types import ExceptionHandlersMap

from sync.engines.base import BadSignature
from sync.errors import Retry, SyncError

log = structlog.get_logger()

RETRY_AFTER_SECONDS = 5


class UnknownIntegrationError(Exception):
    """No active integration has this name."""


class UnpreparedIntegrationError(Exception):
    """The integration exists, but not all that it needs is set up here."""


class MalformedHookError(Exception):
    """A hook is ours, but cannot be read; the message says what is wrong and where."""


class UnknownOrderError(Exception):
    """No order has this code and this phone number."""


class UnknownStoreError(Exception):
    """No active store has this slug."""


class InvalidPhoneError(Exception):
    """What was entered is no number that can get an SMS."""


class UnservedCountryError(Exception):
    """The store sends no SMS to numbers of this country."""


class UnknownPurposeError(Exception):
    """The store sends no codes for this purpose."""


class TooManyCodesError(Exception):
    """A limit of one number or one requester is reached; the first argument names it."""

    def __init__(self, limit: str, wait: int) -> None:
        super().__init__(limit)
        self.wait = wait


class CodesUnavailableError(Exception):
    """A limit of many numbers is reached; the first argument names it."""

    def __init__(self, limit: str, wait: int) -> None:
        super().__init__(limit)
        self.wait = wait


class CodeExpiredError(Exception):
    """A session has ended, its code is used, or there is no such session."""


class AttemptsUsedError(Exception):
    """A session has no attempts left."""


class WrongCodeError(Exception):
    """A code is not the one that was sent."""

    def __init__(self, attempts_left: int) -> None:
        super().__init__("wrong code")
        self.attempts_left = attempts_left


class UnpreparedSendSmsError(Exception):
    """The Send-SMS hook's secret is not set."""


class MissingSchemaError(Exception):
    """The database answers, but it is not (or not fully) migrated."""


class _Problem(msgspec.Struct, frozen=True):
    status: HTTPStatus
    code: str
    title: str
    detail: str
    headers: dict[str, str] = {}
    extra: dict[str, Any] = {}
    """Members of its own, beside those of RFC 9457."""


_UNAVAILABLE = _Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "unavailable",
    "Not available for the moment",
    "Nothing is wrong with the request. Send the same again in a few seconds; nothing counts twice.",
    {"Retry-After": str(RETRY_AFTER_SECONDS)},
)
_INTERNAL = _Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal",
    "An error on our side",
    "Something unexpected happened here; the log of the mirror tells what. Sending the same again does no harm.",
)
_PROBLEMS: dict[type[Exception], _Problem] = {
    UnknownIntegrationError: _Problem(
        HTTPStatus.NOT_FOUND,
        "unknown-integration",
        "No such integration",
        "No active integration has this name. Compare the address with the integration's slug.",
    ),
    UnpreparedIntegrationError: _Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unprepared-integration",
        "This integration is not ready",
        "Its secrets or its engine are not set up where the mirror runs; the log of the mirror names what to set.",
        {"Retry-After": "60"},
    ),
    UnknownOrderError: _Problem(
        HTTPStatus.NOT_FOUND,
        "unknown-order",
        "No such order",
        "No order has this code together with this phone number. Check both.",
    ),
    UnknownStoreError: _Problem(
        HTTPStatus.NOT_FOUND,
        "unknown-store",
        "No such store",
        "No active store has this slug. Leave `store` out where there is only one.",
    ),
    InvalidPhoneError: _Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-phone",
        "Not a mobile phone number",
        "Enter a mobile number as one dials it; from abroad with + and the country code.",
    ),
    UnservedCountryError: _Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "unserved-country",
        "No codes for this country",
        "The shop sends codes to mobile numbers of its own country only, or of some others that it has chosen.",
    ),
    UnknownPurposeError: _Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "unknown-purpose",
        "No codes for this purpose",
        "The store does not list this purpose. Leave `purpose` out, or add it to purposes in mirror.otp_settings.",
    ),
    CodeExpiredError: _Problem(
        HTTPStatus.GONE,
        "code-expired",
        "This code no longer holds",
        "The code has expired or was used. Ask for another.",
    ),
    AttemptsUsedError: _Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-attempts",
        "Too many wrong codes",
        "No code can be entered in this session any more. Ask for another.",
        extra={"attempts_left": 0},
    ),
    UnpreparedSendSmsError: _Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unprepared-hook",
        "This hook is not ready",
        "MIRROR_SEND_SMS_SECRETS is not set where the mirror runs.",
    ),
    MissingSchemaError: _Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "missing-schema",
        "The database is not ready",
        "The database answers, but lacks the mirror's schema. Run `mirror migrate`.",
    ),
    Retry: _UNAVAILABLE,
    Exception: _INTERNAL,
}
_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address. /schema lists what there is.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address takes other methods; the header Allow lists them.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than is taken here. Send fewer events at once.",
}


def exception_handlers() -> ExceptionHandlersMap:
    """Return what Litestar needs to answer every error with a problem."""
    handlers: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]] = {
        error: _answering(problem) for error, problem in _PROBLEMS.items()
    }
    return {
        **handlers,
        BadSignature: _bad_signature,
        MalformedHookError: _malformed,
        TooManyCodesError: _too_many_codes,
        CodesUnavailableError: _codes_unavailable,
        WrongCodeError: _wrong_code,
        HTTPException: _http,
    }


def _answering(problem: _Problem) -> Callable[[Request[Any, Any, Any], Exception], Response[Any]]:
    def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        if isinstance(error, SyncError) and problem is _INTERNAL:
            log.error("api.failed", path=request.url.path, reason=error.reason)  # its cause may quote a row
        elif problem is _INTERNAL:
            log.error("api.failed", path=request.url.path, exc_info=error)
        elif problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("api.unavailable", path=request.url.path, reason=str(error))
        return _response(request, problem)

    return answer


def _bad_signature(request: Request[Any, Any, Any], error: BadSignature) -> Response[Any]:
    log.warning("hook.refused", path=request.url.path, reason=error.reason)
    problem = _Problem(HTTPStatus.UNAUTHORIZED, "bad-signature", "Not signed with our secret", error.reason)
    return _response(request, problem)


def _malformed(request: Request[Any, Any, Any], error: MalformedHookError) -> Response[Any]:
    log.warning("hook.malformed", path=request.url.path, reason=str(error))
    problem = _Problem(HTTPStatus.BAD_REQUEST, "malformed", "The hook cannot be read", str(error))
    return _response(request, problem)


def _too_many_codes(request: Request[Any, Any, Any], error: TooManyCodesError) -> Response[Any]:
    log.info("otp.refused", limit=str(error))
    return _response(
        request,
        _Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too-many-codes",
            "Too many codes",
            f"Ask for another code in {error.wait} seconds.",
            {"Retry-After": str(error.wait)},
            {"resend_in": error.wait},
        ),
    )


def _codes_unavailable(request: Request[Any, Any, Any], error: CodesUnavailableError) -> Response[Any]:
    log.warning("otp.unavailable", limit=str(error))
    return _response(
        request,
        _Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "codes-unavailable",
            "No codes for the moment",
            "The shop has sent as many codes as it allows itself, and sends none to this number now. Use another way.",
            {"Retry-After": str(error.wait)},
        ),
    )


def _wrong_code(request: Request[Any, Any, Any], error: WrongCodeError) -> Response[Any]:
    return _response(
        request,
        _Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "wrong-code",
            "This is not the code",
            "Compare the code with the SMS, and enter it again.",
            extra={"attempts_left": error.attempts_left},
        ),
    )


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer what Litestar itself found: no such route, method or parameter, or too large a body."""
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("api.failed", path=request.url.path, reason=error.detail)
        return _response(request, _INTERNAL)
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    detail = _DETAILS.get(status) or _what_is_wrong(error)
    code = status.phrase.lower().replace(" ", "-")
    return _response(request, _Problem(status, code, status.phrase, detail, headers))


def _what_is_wrong(error: HTTPException) -> str:
    """Name the parameters that are missing or wrong; the rest of Litestar's message repeats the whole address."""
    if isinstance(error.extra, list) and error.extra:
        return ". ".join(f"{item['key']}: {item['message']}" for item in error.extra)
    return error.detail.partition(" for ")[0]


def _response(request: Request[Any, Any, Any], problem: _Problem) -> Response[Any]:
    return ProblemDetailsException(
        status_code=problem.status,
        type_=f"urn:commerce-mirror:problem:{problem.code}",
        title=problem.title,
        detail=problem.detail,
        extra={"code": problem.code, **problem.extra},
        headers={"Cache-Control": "no-store", **problem.headers},
    ).to_response(request)
