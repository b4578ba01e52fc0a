"""What OpenAPI says of the problems that a route may answer: each with its stable code, and an example of it.

The problems themselves are in `api/problems.py`. A route names those that are its own; what may befall any is added.
"""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, Reference, SecurityScheme

from api.answers import MEDIA_TYPE, members
from api.problems import HTTP_PROBLEMS, PROBLEMS, Problem, TooManyRequestsError
from sync.errors import Retry

HOOK, TOKEN, METRICS = "hookSignature", "customerToken", "metricsToken"
SECURITY: dict[str, SecurityScheme | Reference] = {
    HOOK: SecurityScheme(
        type="apiKey",
        name="webhook-signature",
        security_scheme_in="header",
        description="Standard Webhooks: webhook-id, webhook-timestamp and webhook-signature, over the raw body.",
    ),
    TOKEN: SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description="From /otp/verify."),
    METRICS: SecurityScheme(type="http", scheme="bearer", description="The operator's MIRROR_METRICS_TOKEN."),
}
"""What lets one in, by the names that routes use."""

TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class ProblemDetails(msgspec.Struct):
    """What is wrong and what to do (RFC 9457). A problem may have members of its own beside these."""

    type: str
    """The code as a URI."""
    title: str
    status: int
    detail: str
    """What is wrong and what to do, in words; they may change."""
    code: str
    """What is wrong, for programs; it never changes."""


def problems(*errors: type[Exception] | HTTPStatus) -> Mapping[int, ResponseSpec]:
    """Return what a route may answer when it cannot do what it is for: its own errors, and what befalls any request."""
    kinds = [PROBLEMS[error] if isinstance(error, type) else HTTP_PROBLEMS[error] for error in errors]
    common = [HTTP_PROBLEMS[status] for status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT)]
    by_status: dict[int, list[Problem]] = {}
    for problem in [*kinds, *common, PROBLEMS[TooManyRequestsError], PROBLEMS[Retry], PROBLEMS[Exception]]:
        by_status.setdefault(problem.status.value, []).append(problem)
    return {status: _response(of_status) for status, of_status in sorted(by_status.items())}


def _response(kinds: list[Problem]) -> ResponseSpec:
    return ResponseSpec(
        ProblemDetails,
        generate_examples=False,
        description=". ".join(dict.fromkeys(problem.title for problem in kinds)) + ".",
        media_type=MEDIA_TYPE,
        examples=[Example(id=problem.code, summary=problem.title, value=_example(problem)) for problem in kinds],
    )


def _example(problem: Problem) -> dict[str, object]:
    return members(
        problem,
        reason=problem.advice,
        wait=60,
        attempts_left=3,
        limit="guesses",
        pending=["20261120222000"],
        lag_seconds=1234,
    )
