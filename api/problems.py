"""What can be wrong, as it is told to whoever sent the request (RFC 9457, application/problem+json).

A problem says what is wrong and what to do. What concerns only us goes to the log: no answer tells about the database,
the code or other people's data. `code` is stable; `type` is the same as a URI. `PROBLEMS` is the whole list: the
answers (`api/answers.py`), the OpenAPI document and docs/problems.md are made of it.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from api.errors import (
    AttemptsUsedError,
    BadTokenError,
    CodeExpiredError,
    CodesUnavailableError,
    ExpiredLinkError,
    InvalidPhoneError,
    LaggingError,
    MalformedHookError,
    MissingSchemaError,
    PendingMigrationsError,
    TooManyCodesError,
    TooManyRequestsError,
    TooManyStreamsError,
    UnknownIntegrationError,
    UnknownOrderError,
    UnknownPurposeError,
    UnknownStoreError,
    UnpreparedIntegrationError,
    UnpreparedSendSmsError,
    UnservedCountryError,
    WrongCodeError,
)
from sync.engines.base import BadSignature
from sync.errors import Retry

RETRY_AFTER_SECONDS = 5


class Problem(msgspec.Struct, frozen=True):
    """A kind of problem."""

    status: HTTPStatus
    code: str
    title: str
    detail: str
    """What is wrong and what to do."""
    headers: dict[str, str] = {}
    extra: dict[str, Any] = {}
    """Members of its own, beside those of RFC 9457: name → a value, or the name of the error's attribute."""
    advice: str = ""
    """What to do, where the detail differs from case to case: for docs/problems.md."""


UNAVAILABLE = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "unavailable",
    "Not available for the moment",
    "Nothing is wrong with the request. Send the same again in a few seconds; nothing counts twice.",
    {"Retry-After": str(RETRY_AFTER_SECONDS)},
)
INTERNAL = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal",
    "An error on our side",
    "Something unexpected happened here; the log of the mirror tells what. Sending the same again does no harm.",
)
PROBLEMS: dict[type[Exception], Problem] = {
    UnknownIntegrationError: Problem(
        HTTPStatus.NOT_FOUND,
        "unknown-integration",
        "No such integration",
        "No active integration has this name. Compare the address with the integration's slug.",
    ),
    UnpreparedIntegrationError: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unprepared-integration",
        "This integration is not ready",
        "Its secrets or its engine are not set up where the mirror runs; the log of the mirror names what to set.",
        {"Retry-After": "60"},
    ),
    UnknownOrderError: Problem(
        HTTPStatus.NOT_FOUND,
        "unknown-order",
        "No such order",
        "No order has this code together with this phone number, or with this other proof. Check both.",
    ),
    ExpiredLinkError: Problem(
        HTTPStatus.GONE,
        "link-expired",
        "This link has expired",
        "The shop made it for a time that is over. Ask with the order's code and a phone number of it instead.",
    ),
    BadTokenError: Problem(
        HTTPStatus.UNAUTHORIZED,
        "bad-token",
        "This token does not hold",
        "The token is not one of ours, or it has expired. Prove the phone number again.",
        {"WWW-Authenticate": 'Bearer error="invalid_token"'},
    ),
    TooManyStreamsError: Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-streams",
        "Too many watch at once",
        "Close another stream, or ask for the order from time to time instead.",
        {"Retry-After": "30"},
    ),
    UnknownStoreError: Problem(
        HTTPStatus.NOT_FOUND,
        "unknown-store",
        "No such store",
        "No active store has this slug. Leave `store` out where there is only one.",
    ),
    InvalidPhoneError: Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-phone",
        "Not a mobile phone number",
        "Enter a mobile number as one dials it; from abroad with + and the country code.",
    ),
    UnservedCountryError: Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "unserved-country",
        "No codes for this country",
        "The shop sends codes to mobile numbers of its own country only, or of some others that it has chosen.",
    ),
    UnknownPurposeError: Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "unknown-purpose",
        "No codes for this purpose",
        "The store does not list this purpose. Leave `purpose` out, or add it to purposes in mirror.otp_settings.",
    ),
    CodeExpiredError: Problem(
        HTTPStatus.GONE,
        "code-expired",
        "This code no longer holds",
        "The code has expired or was used. Ask for another.",
    ),
    AttemptsUsedError: Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-attempts",
        "Too many wrong codes",
        "No code can be entered in this session any more. Ask for another.",
        extra={"attempts_left": 0},
    ),
    UnpreparedSendSmsError: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unprepared-hook",
        "This hook is not ready",
        "MIRROR_SEND_SMS_SECRETS is not set where the mirror runs.",
    ),
    MissingSchemaError: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "missing-schema",
        "The database is not ready",
        "The database answers, but lacks the mirror's schema. Run `mirror migrate`.",
    ),
    PendingMigrationsError: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "pending-migrations",
        "The database is older than the mirror",
        "Migrations of this version were not applied. Run `mirror migrate`.",
        extra={"pending": "pending"},
    ),
    LaggingError: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "lagging",
        "Events wait too long",
        "Hooks are taken, but not applied in time. Look whether the daemon (`mirror work`) runs, and at its log.",
        extra={"lag_seconds": "lag_seconds"},
    ),
    BadSignature: Problem(
        HTTPStatus.UNAUTHORIZED,
        "bad-signature",
        "Not signed with our secret",
        "{reason}",
        advice="The detail says what is wrong with the signature: a missing header, the wrong secret, a wrong clock.",
    ),
    MalformedHookError: Problem(
        HTTPStatus.BAD_REQUEST,
        "malformed",
        "The hook cannot be read",
        "{reason}",
        advice="The detail names the place in the body. Sending the same again will not help.",
    ),
    TooManyCodesError: Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-codes",
        "Too many codes",
        "Ask for another code in {wait} seconds.",
        extra={"resend_in": "wait"},
    ),
    CodesUnavailableError: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "codes-unavailable",
        "No codes for the moment",
        "The shop has sent as many codes as it allows itself, and sends none to this number now. Use another way.",
    ),
    WrongCodeError: Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "wrong-code",
        "This is not the code",
        "Compare the code with the SMS, and enter it again.",
        extra={"attempts_left": "attempts_left"},
    ),
    TooManyRequestsError: Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-requests",
        "Too many requests",
        "Too much was asked for. Ask again in {wait} seconds.",
        extra={"limit": "limit"},
    ),
    Retry: UNAVAILABLE,
    Exception: INTERNAL,
}
"""Error → what is told of it. The error's attributes fill the {…} of a detail."""

HTTP_PROBLEMS: dict[HTTPStatus, Problem] = {
    problem.status: problem
    for problem in (
        Problem(
            HTTPStatus.BAD_REQUEST,
            "bad-request",
            "The request cannot be read",
            "{reason}",
            advice="The detail names the parameter or field that is missing or wrong.",
        ),
        Problem(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "Not let in",
            "{reason}",
            advice="Send what lets you in, as the detail says.",
        ),
        Problem(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            "Not allowed",
            "What lets you in does not open this.",
        ),
        Problem(
            HTTPStatus.NOT_FOUND,
            "not-found",
            "Nothing here",
            "There is nothing at this address. /schema lists what there is.",
        ),
        Problem(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Another method, please",
            "This address takes other methods; the header Allow lists them.",
        ),
        Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            "request-timeout",
            "The request did not arrive in time",
            "The connection was open, and the rest of the request did not come. Send it again, all at once.",
        ),
        Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "request-entity-too-large",
            "Too large a body",
            "The body is larger than is taken here. Send fewer events at once.",
        ),
        Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Another kind of body, please",
            "Send JSON, with the header Content-Type: application/json.",
        ),
        Problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "request-header-fields-too-large",
            "Too long a head",
            "Address and headers together are longer than is taken here.",
        ),
        INTERNAL,
        UNAVAILABLE,
    )
}
"""What the server itself finds: no such address, method or parameter, too large a body, no time left."""


def all_problems() -> Iterable[Problem]:
    """Return each problem once, by its code."""
    found = {problem.code: problem for problem in (*PROBLEMS.values(), *HTTP_PROBLEMS.values())}
    return [found[code] for code in sorted(found)]
