"""Vendure's Admin API: one question, one answer, and what to do if there is none.

Logs in when it is needed, and once more when the session has ended. Nothing is tried again here: `ask` says by its
error what became of the attempt.

    Retry
    ├── TooMuch     no whole answer: it took too long, 413, 5xx, cut off. Ask for less
    └── TooOften    429. Ask later, and less often
    Reject
    └── Forbidden   not let in, or not allowed to do this
"""

import asyncio
import contextlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import msgspec

from sync.errors import Reject, Retry
from sync.settings import Credentials
from sync.storable import storable

REQUEST_SECONDS = 30.0
REST_SECONDS = 1.0
"""After a 429 that does not say when to come again."""
REASON_LENGTH = 300

LOGIN = """mutation ($username: String!, $password: String!) {
  login(username: $username, password: $password) { __typename ... on ErrorResult { errorCode } }
}"""
NOT_ALLOWED = (
    "The shop does not let the mirror do this. Its API key, or the role of its administrator, needs the permissions "
    "ReadCustomer, ReadOrder and UpdateOrder in the default channel."
)
UNKNOWN = ("Cannot query field", "Unknown type", "Unknown argument", "is not defined by type")
"""What GraphQL says of a question that the schema has no room for."""
UPDATE = "Update the CustomerSync plugin in the shop to the mirror's version."

T = TypeVar("T")
Headers = dict[str, str]


class TooMuch(Retry):
    """The shop gave no whole answer; it may give one to a smaller question."""


class TooOften(Retry):
    """The shop has enough for now."""


class Forbidden(Reject):
    """The session has ended, or the shop's administrator lacks a permission."""


class _Extensions(msgspec.Struct):
    code: str | None = None


class _Fault(msgspec.Struct):
    message: str = ""
    extensions: _Extensions | None = None


class _Answer(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")
    errors: list[_Fault] | None = None


class _Outcome(msgspec.Struct, rename="camel"):
    error_code: str | None = None


class _Login(msgspec.Struct):
    login: _Outcome


_answers = msgspec.json.Decoder(_Answer)


class AdminApi:
    """The Admin API of one shop, and our session with it."""

    def __init__(self, http: httpx.AsyncClient, credentials: Credentials, seconds: float = REQUEST_SECONDS) -> None:
        self._http = http
        self._credentials = credentials
        self._seconds = seconds
        self._session: Headers | None = {"vendure-api-key": credentials.api_key} if credentials.api_key else None
        self._logging_in = asyncio.Lock()

    async def ask(self, query: str, answer: type[T], **variables: Any) -> T:
        """Return the data that the shop answers; raise Retry or Reject."""
        session = self._session or await self._log_in(None)
        try:
            return await self._post(query, answer, variables, session)
        except Forbidden:
            if self._credentials.api_key:
                raise
        return await self._post(query, answer, variables, await self._log_in(session))

    async def _log_in(self, ended: Headers | None) -> Headers:
        """Return a session newer than the one that ended; of many who ask, one logs in."""
        async with self._logging_in:
            if self._session is None or self._session is ended:
                self._session = None
                self._session = await self._new_session()
            return self._session

    async def _new_session(self) -> Headers:
        variables = {"username": self._credentials.username, "password": self._credentials.password}
        response = await self._send(LOGIN, variables, {})
        refusal = _data(response, _Login).login.error_code
        if refusal:
            raise Forbidden(f"The shop refuses the mirror's username and password ({refusal}).")
        token = response.headers.get("vendure-auth-token")
        return (
            {"authorization": f"Bearer {token}"} if token else {}
        )  # else the shop works with cookies; httpx keeps them

    async def _post(self, query: str, answer: type[T], variables: dict[str, Any], session: Headers) -> T:
        return _data(await self._send(query, variables, session), answer)

    async def _send(self, query: str, variables: dict[str, Any], session: Headers) -> httpx.Response:
        body = msgspec.json.encode({"query": query, "variables": variables})
        headers = {"content-type": "application/json", **session}
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._http.post(self._credentials.api_url, content=body, headers=headers)
        except (TimeoutError, httpx.TimeoutException):
            raise TooMuch(f"The shop did not answer within {self._seconds:g} s.") from None
        except httpx.ConnectError as error:
            raise Retry(f"The shop cannot be reached: {error}.") from None
        except httpx.RequestError as error:
            raise TooMuch(f"The line to the shop was cut: {error or type(error).__name__}.") from None
        _judge(response)
        return response


def _judge(response: httpx.Response) -> None:
    """Raise what an HTTP status means; GraphQL's own refusals come with 200 or 400."""
    status = response.status_code
    said = f"The shop answered {status} {response.reason_phrase}"
    after = _retry_after(response.headers.get("retry-after"))
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise TooOften(f"{said}.", after=REST_SECONDS if after is None else after)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in {
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.REQUEST_ENTITY_TOO_LARGE,
    }:
        raise TooMuch(f"{said}.", after=after)
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise Forbidden(f"{said}. {NOT_ALLOWED}")
    if status not in {httpx.codes.OK, httpx.codes.BAD_REQUEST}:
        raise Reject(f"{said} at the address of its Admin API. Is the address right?")


def _data(response: httpx.Response, answer: type[T]) -> T:
    """Return what an answer holds; raise Reject or Retry for the errors in it."""
    if "json" not in response.headers.get("content-type", ""):
        raise Reject("What answers at the address of the Admin API is no GraphQL API. Is the address right?")
    try:
        content = _answers.decode(storable(response.content))
        if content.errors:
            raise _refusal(content.errors[0])
        return msgspec.json.decode(content.data, type=answer)
    except msgspec.ValidationError as error:
        raise Reject(f"The shop answered something else than was asked: {error}. {UPDATE}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise TooMuch("The shop's answer was cut off.") from None


def _refusal(fault: _Fault) -> Exception:
    code = fault.extensions.code if fault.extensions else None
    message = fault.message[:REASON_LENGTH]
    if any(text in message for text in UNKNOWN):
        return Reject(f"The shop does not know what it was asked ({message}). {UPDATE}")
    if code in {"FORBIDDEN", "UNAUTHORIZED"}:
        return Forbidden(NOT_ALLOWED)
    if code in {"INTERNAL_SERVER_ERROR", None}:
        return TooMuch(f"The shop failed to answer ({message}).")
    return Reject(f"The shop refuses: {message} ({code})")


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds, or a date)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    with contextlib.suppress(ValueError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None
