"""`POST /auth/hooks/send-sms`: Supabase Auth has us bring its codes, by the same drivers and within the same limits.

See https://supabase.com/docs/guides/auth/auth-hooks/send-sms-hook. It waits five seconds; an answer is 200 with JSON.
What is refused is 200, too, with an `error` that its user gets to see: any other status says that the hook is broken.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from api import examples
from api.documented import HOOK, TOO_LARGE, answers, example, problems, takes
from api.errors import MalformedHookError, UnknownStoreError, UnpreparedSendSmsError
from api.limits.limits import Limits
from api.settings import EdgeSettings
from api.sms.outbox import Outbox, Sms
from api.sms.segments import segments
from api.sms.texts import code_text
from api.stores import Store, Stores
from sync.database import Database, Row
from sync.deadline import within
from sync.engines.base import BadSignature, require_headers
from sync.phones import Mobile, mobile

log = structlog.get_logger()

DATABASE_SECONDS = 1.5
SENDING_SECONDS = 2.5
"""After so long we answer that the text is under way, which it is."""

MAX_BODY_BYTES = 200 * 1024
CODE_SECONDS = 300
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

StoreSlug = Annotated[
    str | None,
    QueryParameter(description="The store's slug; the first store without it.", examples=example("default")),
]


class _User(msgspec.Struct):
    phone: str = ""
    user_metadata: dict[str, Any] | None = None


class _Text(msgspec.Struct):
    otp: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4,12}$")]
    phone: str = ""


class _Hook(msgspec.Struct):
    user: _User
    sms: _Text


_hooks = msgspec.json.Decoder(_Hook)


class Refusal(msgspec.Struct):
    """Why no text is sent, as Supabase Auth tells its user."""

    http_code: int
    message: str


class SmsTaken(msgspec.Struct, omit_defaults=True):
    """What becomes of the text: empty if it is sent."""

    error: Refusal | None = None


def send_sms_route(
    database: Database, outbox: Outbox, stores: Stores, edge: EdgeSettings, limits: Limits
) -> HTTPRouteHandler:
    """Return the route of Supabase Auth's Send-SMS hook."""

    @post(
        "/auth/hooks/send-sms",
        status_code=200,
        request_max_body_size=MAX_BODY_BYTES,
        tags=["hooks"],
        security=[{HOOK: []}],
        operation_class=takes(examples.SEND_SMS, description="As Supabase Auth sends it."),
        responses={
            **answers(SmsTaken, "The text is sent, or will not be.", examples.SMS_SENT, examples.SMS_REFUSED),
            **problems(BadSignature, MalformedHookError, UnknownStoreError, UnpreparedSendSmsError, TOO_LARGE),
        },
    )
    async def send_sms(request: Request[Any, Any, Any], store: StoreSlug = None) -> Response[SmsTaken]:
        """Send the code that Supabase Auth made for a phone number."""
        if not edge.send_sms_secrets:
            raise UnpreparedSendSmsError
        try:
            require_headers(request.headers, HEADERS)
            body = await request.body()
            _verify(request.headers, body, edge.send_sms_secrets)
        except BadSignature:
            await limits.unsigned(request, "supabase-auth")
            raise
        outbox.require_room()
        found = await stores.find(store)
        if found is None:
            raise UnknownStoreError
        refusal = await _send(database, outbox, found, _read(body), request.headers["webhook-id"])
        return Response(SmsTaken(refusal), status_code=200)

    return send_sms


async def _send(database: Database, outbox: Outbox, store: Store, hook: _Hook, message_id: str) -> Refusal | None:
    number = _number(hook, store)
    if number is None:
        return Refusal(422, "This is not a mobile phone number.")
    locale = (hook.user.user_metadata or {}).get("locale")
    text = code_text(store, hook.sms.otp, locale if isinstance(locale, str) else None, seconds=CODE_SECONDS)
    (answer,) = await within(
        DATABASE_SECONDS,
        database.rows(
            "request_sms",
            p_store_slug=store.slug,
            p_phone=number.digits,
            p_country=number.country,
            p_message_id=message_id,
            p_segments=segments(text),
            p_segment_price=outbox.segment_price,
        ),
    )
    if answer["outcome"] == "refused":
        return _refusal(answer)
    if answer["outcome"] == "send":
        task = outbox.begin(Sms(answer["delivery_id"], number.digits, text))
        await asyncio.wait({task}, timeout=SENDING_SECONDS)
        if task.done() and task.result().outcome == "failed":
            return Refusal(503, "The text could not be sent. Try again later.")
    return None


def _number(hook: _Hook, store: Store) -> Mobile | None:
    """Return whom the text is for. Supabase Auth writes numbers with country code, and mostly without the plus.

    Not user.new_phone: a number that is still to be proved must not get the code of a login.
    """
    written = hook.sms.phone or hook.user.phone
    return mobile("+" + written.lstrip("+")[:40], store.phone_region)


def _refusal(answer: Row) -> Refusal:
    log.warning("sms.refused", reason=answer["reason"], purpose="supabase-auth")
    if answer["reason"] == "country":
        return Refusal(422, "Codes are not sent to this country.")
    return Refusal(429, f"Too many codes were sent. Try again in {answer['wait_seconds']} seconds.")


def _read(body: bytes) -> _Hook:
    try:
        return _hooks.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedHookError("The body is no Send-SMS hook: it needs user.phone and sms.otp.") from None


def _verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
    """Raise BadSignature unless one of the secrets signed this body within the last five minutes.

    While a secret is rotated, Supabase signs with both and puts ", " between the signatures; the standard has a space.
    """
    signed = {name: headers.get(name, "") for name in HEADERS}
    signed["webhook-signature"] = signed["webhook-signature"].replace(", ", " ")
    for secret in secrets:
        try:
            Webhook(secret).verify(body, signed, json_parse=False)
        except (WebhookVerificationError, ValueError):
            continue
        return
    raise BadSignature(
        "The signature does not match, or is older than five minutes. Compare MIRROR_SEND_SMS_SECRETS with the secret "
        "of the hook in Supabase."
    )
