"""What OpenAPI says of routes beyond their types: what they take and answer, by examples, and what may go wrong.

Each problem has its stable code and an example; the problems themselves are in `api/problems.py`. A route names those
that are its own; what may befall any is added. The examples are in `api/examples.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)

from api.answers import MEDIA_TYPE, members
from api.errors import TooManyRequestsError
from api.problems import HTTP_PROBLEMS, PROBLEMS, Problem
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


def example(value: Any) -> list[Example]:
    """Return a parameter's one example."""
    return [Example(value=value)]


def answers(
    kind: Any, description: str, *examples: Any, status: int = 200, media_type: str = "application/json"
) -> Mapping[int, ResponseSpec]:
    """Return what a route answers when it can do what it is for."""
    given = [Example(id=f"example{number}", value=value) for number, value in enumerate(examples, 1)]
    spec = ResponseSpec(
        kind, generate_examples=False, description=description, media_type=media_type, examples=given or None
    )
    return {status: spec}


def takes(body: Any = None, *, description: str | None = None, headers: Sequence[Parameter] = ()) -> type[Operation]:
    """Return the kind of operation that takes a body such as this one, or headers that its function reads by itself."""

    @dataclass
    class Taking(Operation):
        def __post_init__(self) -> None:
            if headers:
                self.parameters = [*(self.parameters or ()), *headers]
            if body is None:
                return
            taken = self.request_body
            if not isinstance(taken, RequestBody):  # read as it came, for it is signed
                content = {"application/json": OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT))}
                self.request_body = taken = RequestBody(content=content, required=True)
            taken.description = description
            for media in taken.content.values():
                media.examples = {"example1": Example(value=body)}

    return Taking


def header(name: str, description: str, value: str) -> Parameter:
    """Return a header that a function reads by itself, with an example."""
    schema = Schema(type=OpenAPIType.STRING)
    examples = {"example1": Example(value=value)}
    return Parameter(name, "header", schema, description=description, required=False, examples=examples)


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
