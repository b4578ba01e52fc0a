"""Lexware Office's public API, as far as we need it: find a bookkeeping voucher by its number, and create one.

Nothing is tried again here. What goes wrong says whether the voucher may have been created:

    Reject
    └── Refused       it does not take this voucher (406, …), and never will: it was not created
    Retry             it could not be asked: it was not created
    ├── Busy          it has too many requests (429): it was not created, and nobody should ask for a while
    ├── Barred        it does not let us in (401, 402, 403): it was not created, and neither will others be
    └── Unanswered    it, or the line, broke off (500, 504, a time-out): it may have been created

https://developers.lexware.io/docs/: "Vouchers Endpoint", "API Rate Limits", "Error Codes". Of 504 that says "It is
possible that your request has been processed successfully", and 500 may mean too many requests, too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import msgspec

from sync.errors import Reject, Retry
from sync.settings import LexofficeAccess

REQUEST_SECONDS = 45.0
"""Longer than its gateway takes to give up (30 s), and shorter than what a lease has left when a request begins."""

PAGE = 250
"""As many vouchers as it lists at once."""

REASON_LENGTH = 300
RESPONSE_LENGTH = 4000

BARRED = {
    httpx.codes.UNAUTHORIZED: "does not know LEXOFFICE_API_KEY",
    httpx.codes.PAYMENT_REQUIRED: "says that its contract is to be looked into",
    httpx.codes.FORBIDDEN: "does not let LEXOFFICE_API_KEY do this",
}

Response = dict[str, Any]


class Refused(Reject):
    """This voucher is not taken."""

    def __init__(self, reason: str, response: Response) -> None:
        super().__init__(reason)
        self.response = response


class Busy(Retry):
    """It has enough for now, from all of us."""


class Barred(Retry):
    """The key or the account is not right; no voucher is to blame."""


class Unanswered(Retry):
    """Nobody knows what became of the request."""


class Voucher(msgspec.Struct, frozen=True, rename="camel"):
    """A voucher that Lexware Office has. It writes amounts as numbers or as strings."""

    id: str
    type: str
    total_gross_amount: Decimal
    total_tax_amount: Decimal
    voucher_number: str | None = None


class Created(msgspec.Struct, frozen=True):
    """A voucher that was created, and what was said of it."""

    id: str
    response: Response


class _Page(msgspec.Struct, frozen=True):
    content: list[Voucher]
    last: bool


class _Id(msgspec.Struct, frozen=True):
    id: str


class _Issue(msgspec.Struct, frozen=True, rename="camel"):
    source: str | None = None
    i18n_key: str | None = msgspec.field(default=None, name="i18nKey")
    field: str | None = None
    violation: str | None = None


class _Fault(msgspec.Struct, frozen=True):
    """What it says of a request that it refuses, in either of its forms."""

    issues: list[_Issue] = msgspec.field(default=[], name="IssueList")
    details: list[_Issue] = []
    message: str | None = None


class Lexoffice:
    """One account. Whoever asks keeps to its pace: see `mirror.begin_request`."""

    def __init__(self, http: httpx.AsyncClient, seconds: float = REQUEST_SECONDS) -> None:
        self._http = http
        self._seconds = seconds

    async def find(self, number: str) -> list[Voucher]:
        """Return the sales invoices with this number; raise Retry if it cannot be known which there are."""
        answer = await self._ask("GET", "/v1/vouchers", params={"voucherNumber": number, "size": PAGE})
        page = _read(answer, _Page)
        found = [v for v in page.content if v.type == "salesinvoice" and v.voucher_number == number]
        if not found and not page.last:
            raise Retry("Lexware Office lists vouchers with other numbers than the one that was asked for.")
        return found

    async def create(self, payload: str) -> Created:
        """Create a voucher; return once it is there. Raises as the module says."""
        headers = {"content-type": "application/json"}
        answer = await self._ask("POST", "/v1/vouchers", content=payload.encode(), headers=headers)
        return Created(_read(answer, _Id).id, _response(answer))

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._http.request(method, path, **request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Retry(f"Lexware Office cannot be reached: {type(error).__name__}.") from None
        except (TimeoutError, httpx.TimeoutException):
            raise Unanswered(f"Lexware Office did not answer within {self._seconds:g} s.") from None
        except httpx.HTTPError as error:
            raise Unanswered(f"The line to Lexware Office was cut: {type(error).__name__}.") from None
        _judge(answer)
        return answer


@asynccontextmanager
async def connect(access: LexofficeAccess) -> AsyncIterator[Lexoffice]:
    """Open an account; it is asked with the first question."""
    headers = {"authorization": f"Bearer {access.api_key}", "accept": "application/json"}
    async with httpx.AsyncClient(base_url=access.api_url, headers=headers, timeout=None) as http:  # noqa: S113 - each request has one deadline
        yield Lexoffice(http)


def _judge(answer: httpx.Response) -> None:
    """Raise what a status means."""
    status = answer.status_code
    said = f"Lexware Office answered {status}"
    if answer.is_success:
        return
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise Busy(f"{said}: too many requests.", after=_seconds(answer.headers.get("retry-after")))
    if status in BARRED:
        raise Barred(f"Lexware Office {BARRED[httpx.codes(status)]} ({status}).")
    if answer.is_client_error and status not in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise Refused(f"{said}: {_why(answer)}", _response(answer))
    if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise Retry(f"{said}: what was asked for is not there. Is LEXOFFICE_API_URL right?")
    raise Unanswered(f"{said}.")


def _read(answer: httpx.Response, shape: Any) -> Any:
    """Return what was answered; what cannot be read answers nothing."""
    try:
        return msgspec.json.decode(answer.content, type=shape)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Unanswered(f"Lexware Office's answer cannot be read: {error}"[:REASON_LENGTH]) from None


def _why(answer: httpx.Response) -> str:
    """Return which fields it does not like, and why. Its sentences are for people, but may quote what was sent."""
    try:
        fault = msgspec.json.decode(answer.content, type=_Fault)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return "it does not say why"
    named = [(each.source or each.field, each.i18n_key or each.violation) for each in (*fault.issues, *fault.details)]
    texts = [f"{field}: {key}" if field else str(key) for field, key in named if field or key]
    return ("; ".join(texts) or fault.message or "it does not say why")[:REASON_LENGTH]


def _response(answer: httpx.Response) -> Response:
    """Return an answer as it is kept."""
    try:
        body = msgspec.json.decode(answer.content) if len(answer.content) <= RESPONSE_LENGTH else None
    except msgspec.DecodeError:
        body = None
    return {"status": answer.status_code, "body": answer.text[:RESPONSE_LENGTH] if body is None else body}


def _seconds(value: str | None) -> float | None:
    """Return what Retry-After asks for, if it is a number; it is not documented, and is heeded if it comes."""
    try:
        return min(max(float(value or ""), 0.0), 3600.0)
    except ValueError:
        return None
