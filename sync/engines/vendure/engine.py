"""Vendure as an engine: its signature, its envelope, its mapping, its Admin API."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from sync.engines.base import Client, Context, Event
from sync.engines.vendure import client, payloads, signature
from sync.engines.vendure.mapping import content_hash, map_event
from sync.records import Entity, Record
from sync.settings import Credentials, are_secrets


class Vendure:
    """Vendure with the mirror's plugins; `docs/vendure-hooks.md` is what they and we agreed on."""

    name = "vendure"
    entities: tuple[Entity, ...] = ("customer", "order")
    api_url: str | None = None
    signature_headers: tuple[str, ...] = signature.HEADERS

    def check_secrets(self, secrets: list[str]) -> None:
        are_secrets(secrets)

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
        signature.verify(headers, body, secrets)

    def read(self, body: bytes) -> list[Event]:
        return payloads.read(body)

    def map(self, event_type: str, payload: bytes, context: Context) -> list[Record]:
        return map_event(event_type, payload, context)

    def source_hash(self, listed: str, context: Context) -> str:
        return content_hash(listed, context) or ""

    def connect(self, credentials: Credentials) -> AbstractAsyncContextManager[Client]:
        return client.connect(credentials)
