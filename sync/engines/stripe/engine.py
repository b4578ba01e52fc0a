"""Stripe as an engine: its signature, its events, its mapping, its API."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from environs import ValidationError

from sync.engines.base import Client, Context, Event
from sync.engines.stripe import payloads
from sync.engines.stripe.mapping import map_event
from sync.records import Entity, Record
from sync.settings import Credentials

SECRET = re.compile(r"whsec_[A-Za-z0-9+/=_-]{24,}")


class Stripe:
    """A Stripe account; `docs/stripe.md` says what of it is mirrored.

    Its library takes half a second to import, and whoever needs no Stripe need not wait for it.
    """

    name = "stripe"
    entities: tuple[Entity, ...] = ("plan", "subscription", "payment", "refund", "invoice")
    api_url: str | None = "https://api.stripe.com"
    signature_headers: tuple[str, ...] = ("stripe-signature",)

    def check_secrets(self, secrets: list[str]) -> None:
        if not secrets or not all(SECRET.fullmatch(secret.strip()) for secret in secrets):
            raise ValidationError(
                "must be the signing secret of an endpoint in Stripe's dashboard, whsec_… Several are separated by "
                "commas."
            )

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
        from sync.engines.stripe import signature  # noqa: PLC0415 - see above

        signature.verify(headers, body, secrets)

    def read(self, body: bytes) -> list[Event]:
        return payloads.read(body)

    def map(self, event_type: str, payload: bytes, context: Context) -> list[Record]:
        return map_event(event_type, payload, context)

    def source_hash(self, listed: str, context: Context) -> str:
        return listed  # its client lists what it maps

    def connect(self, credentials: Credentials) -> AbstractAsyncContextManager[Client]:
        from sync.engines.stripe import client  # noqa: PLC0415 - see above

        return client.connect(credentials)
