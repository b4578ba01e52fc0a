"""`POST /otp/request` and `POST /otp/verify`: prove a phone number by a code that an SMS brings.

The rules are SQL functions (`mirror.request_otp`, `try_otp`, `verify_otp`); docs/decisions/0017 says what they
promise. Nothing here looks a customer up before the number is proved: what is answered, and when, is the same for a
number that the shop knows and for one that it does not.
"""

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import JSONBody

from api import examples
from api.codes import Hashes, new_code, new_session
from api.documented import TOO_LARGE, answers, problems, takes
from api.errors import (
    AttemptsUsedError,
    CodeExpiredError,
    CodesUnavailableError,
    InvalidPhoneError,
    TooManyCodesError,
    UnknownPurposeError,
    UnknownStoreError,
    UnservedCountryError,
    WrongCodeError,
)
from api.gate import Gate
from api.metrics import CODES
from api.peers import Connection, requester
from api.settings import EdgeSettings
from api.sms.outbox import Outbox, Sms
from api.sms.segments import segments
from api.sms.texts import code_text
from api.stores import Stores
from api.tokens import Tokens
from sync.database import Database, Row
from sync.deadline import within
from sync.phones import mobile

REQUEST_SECONDS = 3.0
VERIFY_SECONDS = 10.0
"""The customer's row may be in the hands of the daemon for a while."""

KEEP_SECONDS = 20.0
MAX_INSIDE = 64
"""So many wait for the database, at the most. Whoever comes then is sent away at once: no queue can grow."""

STEPS = {"send": "asked", "joined": "joined", "refused": "refused"}
"""What `mirror.request_otp` does → how metrics call it."""

MAX_BODY_BYTES = 4096
NO_STORE = {"Cache-Control": "no-store"}

Phone = Annotated[str, msgspec.Meta(max_length=40, description="A mobile number, as one dials it.")]
Purpose = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="What the code is for.")]
Locale = Annotated[str, msgspec.Meta(max_length=35, description="BCP 47: the language of the text (en, si, ta).")]
Slug = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="A store; without it the first.")]
Session = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Code = Annotated[str, msgspec.Meta(pattern=r"^[0-9]([ -]?[0-9]){5}$", description="Six digits.")]


class CodeRequest(msgspec.Struct):
    """Whose phone is to be proved."""

    phone: Phone
    purpose: Purpose = "login"
    locale: Locale | None = None
    store: Slug | None = None


class CodeSent(msgspec.Struct):
    """A session: a code is on its way."""

    session_id: str
    """Keep it, and send it with the code."""
    expires_in: int
    """Seconds for which the code holds."""
    resend_in: int
    """Seconds until another code may be asked for."""


class CodeEntered(msgspec.Struct):
    """The code that came, in the session that it was asked for in."""

    session_id: Session
    code: Code


class Verified(msgspec.Struct, omit_defaults=True):
    """The phone number is proved."""

    verified: bool
    token: str | None = None
    """Opens the customer's own data, here and at Supabase's Data API. Absent where no key for tokens is set."""
    expires_in: int | None = None
    """Seconds for which the token holds."""


class Otp:
    """Codes asked for and entered."""

    def __init__(
        self, database: Database, outbox: Outbox, tokens: Tokens | None, stores: Stores, *, bcrypt_cost: int
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._tokens = tokens
        self._stores = stores
        self._gate = Gate(MAX_INSIDE)
        # Apart, so that whoever enters a code does not wait behind those who ask for one.
        self._making, self._comparing = Hashes(cost=bcrypt_cost), Hashes(cost=bcrypt_cost)

    async def request(self, asked: CodeRequest, asking: str) -> CodeSent:
        """Begin a session and send a code; raise what is in the way."""
        self._outbox.require_room()
        self._making.require_room()
        store = await self._stores.find(asked.store)
        if store is None or store.code_seconds is None:
            raise UnknownStoreError
        number = mobile(asked.phone, store.phone_region)
        if number is None:
            raise InvalidPhoneError
        session, code = new_session(), new_code()
        text = code_text(store, code, asked.locale, seconds=store.code_seconds)
        (answer,) = await self._ask(
            "request_otp",
            REQUEST_SECONDS,
            p_store_slug=store.slug,
            p_phone=number.digits,
            p_country=number.country,
            p_purpose=asked.purpose,
            p_session_id=session,
            p_requester=asking,
            p_segments=segments(text),
            p_segment_price=self._outbox.segment_price,
        )
        CODES.labels(STEPS[answer["outcome"]], answer["reason"] or "").inc()
        if answer["outcome"] == "refused":
            raise _refusal(answer)
        if answer["outcome"] == "send":
            sms = Sms(answer["delivery_id"], number.digits, text)
            self._outbox.begin(sms, first=self._keep(answer["code_id"], code))
        return CodeSent(session, answer["expires_seconds"], answer["wait_seconds"])

    async def verify(self, entered: CodeEntered) -> Verified:
        """Compare a code; raise WrongCodeError, AttemptsUsedError or CodeExpiredError if it is not the one."""
        self._comparing.require_room()
        code = "".join(filter(str.isdigit, entered.code))
        (attempt,) = await self._ask("try_otp", VERIFY_SECONDS, p_session_id=entered.session_id)
        if attempt["outcome"] == "expired":
            raise CodeExpiredError
        if attempt["outcome"] == "locked":
            raise AttemptsUsedError
        if not await self._comparing.match(code, attempt["otp_hash"]):
            CODES.labels("wrong", "").inc()
            raise WrongCodeError(attempt["attempts_left"])
        proved = await self._ask("verify_otp", VERIFY_SECONDS, p_session_id=entered.session_id)
        if not proved:
            raise CodeExpiredError
        CODES.labels("proved", "").inc()
        if self._tokens is None:
            return Verified(verified=True)
        minted = self._tokens.mint(proved[0]["store_id"], proved[0]["phone"])
        return Verified(verified=True, token=minted.token, expires_in=minted.expires_in)

    def close(self) -> None:
        """Let go of the threads."""
        self._making.close()
        self._comparing.close()

    async def _keep(self, code_id: Any, code: str) -> None:
        otp_hash = await self._making.hashed(code)
        await within(KEEP_SECONDS, self._database.call("keep_otp", p_code_id=code_id, p_otp_hash=otp_hash))

    async def _ask(self, function: str, seconds: float, **arguments: Any) -> list[Row]:
        with self._gate.passed():
            return await within(seconds, self._database.rows(function, **arguments))


def otp_routes(otp: Otp, edge: EdgeSettings) -> list[HTTPRouteHandler]:
    """Return the routes by which a phone number is proved."""

    @post(
        "/otp/request",
        status_code=202,
        request_max_body_size=MAX_BODY_BYTES,
        tags=["otp"],
        operation_class=takes(examples.CODE_REQUEST),
        responses={
            **answers(CodeSent, "A code is on its way.", examples.CODE_SENT, status=202),
            **problems(
                UnknownStoreError,
                InvalidPhoneError,
                UnservedCountryError,
                UnknownPurposeError,
                TooManyCodesError,
                CodesUnavailableError,
                TOO_LARGE,
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            ),
        },
    )
    async def request_code(data: JSONBody[CodeRequest], request: Request[Any, Any, Any]) -> Response[CodeSent]:
        """Send a code to a phone number. The answer is the same whether or not the shop knows it."""
        sent = await otp.request(data, requester(request, edge.trusted_proxies))
        return Response(sent, status_code=202, headers=NO_STORE)

    @post(
        "/otp/verify",
        status_code=200,
        request_max_body_size=MAX_BODY_BYTES,
        tags=["otp"],
        operation_class=takes(examples.CODE_ENTERED),
        responses={
            **answers(Verified, "The phone number is proved.", examples.VERIFIED),
            **problems(
                WrongCodeError, CodeExpiredError, AttemptsUsedError, TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            ),
        },
    )
    async def verify_code(data: JSONBody[CodeEntered]) -> Response[Verified]:
        """Prove the phone number by the code that came. A wrong code is told with the attempts that are left."""
        return Response(await otp.verify(data), status_code=200, headers=NO_STORE)

    return [request_code, verify_code]


def require_json(connection: Connection, _: BaseRouteHandler) -> None:
    """Refuse a body that does not say it is JSON: a page of any site may post such a one without a preflight.

    Raises:
        HTTPException: 415.
    """
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(status_code=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _refusal(answer: Row) -> Exception:
    wait = answer["wait_seconds"]
    match answer["reason"]:
        case "store":
            return UnknownStoreError()
        case "purpose":
            return UnknownPurposeError()
        case "country":
            return UnservedCountryError()
        case "cool-down" | "phone hour" | "phone day" | "requester hour" | "requester day":
            return TooManyCodesError(answer["reason"], wait)
        case _:
            return CodesUnavailableError(answer["reason"], wait)
