"""`POST /hooks/{integration}`: take a change hook, prove that it is ours, store it, and only then say so.

Nothing here decides whether an event is relevant: all that is signed and readable goes into the inbox.
"""

from typing import Annotated, Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter

from api import examples
from api.documented import HOOK, TOO_LARGE, answers, example, problems, takes
from api.edge.door import STATE_ID
from api.errors import MalformedHookError, UnknownIntegrationError, UnpreparedIntegrationError
from api.integrations import Integration, Integrations, Unprepared
from api.limits.limits import Limits
from api.metrics import EVENTS
from sync.engines.base import BadSignature, Event, require_headers
from sync.errors import Reject
from sync.intake import Intake

Slug = Annotated[str, PathParameter(description="The integration's slug.", examples=example("vendure"))]


class Receipt(msgspec.Struct):
    """What became of the events of a hook: all of them are committed."""

    accepted: int
    """New ones."""
    duplicates: int
    """Those that were there already, or twice in this hook."""


def hook_route(integrations: Integrations, intake: Intake, limits: Limits, *, max_body_bytes: int) -> HTTPRouteHandler:
    """Return the route that takes hooks."""

    @post(
        "/hooks/{integration:str}",
        status_code=202,
        request_max_body_size=max_body_bytes,
        tags=["hooks"],
        security=[{HOOK: []}],
        operation_class=takes(examples.HOOK, description="The engine's own: here of Vendure (docs/vendure-hooks.md)."),
        responses={
            **answers(Receipt, "All events are committed.", examples.RECEIPT, status=202),
            **problems(
                BadSignature, MalformedHookError, UnknownIntegrationError, UnpreparedIntegrationError, TOO_LARGE
            ),
        },
    )
    async def receive_hook(integration: Slug, request: Request[Any, Any, Any]) -> Receipt:
        """Store the events of a signed change hook; answer once they are committed."""
        sender = await integrations.find(integration)
        if sender is None:
            raise UnknownIntegrationError
        if isinstance(sender, Unprepared):
            raise UnpreparedIntegrationError(sender.fault)
        headers = _headers(request)
        try:
            require_headers(headers, sender.engine.signature_headers)  # before the body, which anybody can make long
            events = _read(sender, headers, await request.body())
        except BadSignature:
            await limits.unsigned(request, sender.slug)
            raise
        accepted = sum(await intake.accept(sender.id, events, request.scope["state"][STATE_ID]))
        duplicates = len(events) - accepted
        EVENTS.labels(sender.slug, "accepted").inc(accepted)
        EVENTS.labels(sender.slug, "duplicate").inc(duplicates)
        return Receipt(accepted=accepted, duplicates=duplicates)

    return receive_hook


def _read(sender: Integration, headers: dict[str, str], body: bytes) -> list[Event]:
    sender.engine.verify(headers, body, sender.secrets)
    try:
        return sender.engine.read(body)
    except Reject as error:
        raise MalformedHookError(error.reason) from None


def _headers(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
