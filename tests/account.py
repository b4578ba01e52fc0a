"""A Stripe account's events, and a mirror that takes them: made from the documents of `tests/stripe/events`."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
from stripe import WebhookSignature

from sync import inbox
from sync.database import Database
from sync.drain import Counts, Drain
from sync.engines.base import Client, Event
from sync.engines.registry import ENGINES
from tests.mirror import Mirror
from tests.provider import CONNECT

EVENTS = Path(__file__).parent / "stripe" / "events"
SECRET = "whsec_" + "TheSigningSecretOfTheEndpoint000"
OTHER_SECRET = "whsec_" + "ASecretThatWeDoNotKnowAsOfYet000"
AT = 1795168800
"""The tests' ten o'clock, as Stripe writes it."""

Document = dict[str, Any]
_numbers = itertools.count(1)


def known(name: str, /) -> Document:
    """Return a file of `events/`: an event, and what is expected of it."""
    loaded: Document = json.loads((EVENTS / f"{name}.json").read_text())
    return loaded


def document(name: str, /, **fields: Any) -> Document:
    """Return the object of a known event, with other fields."""
    return {**copy.deepcopy(known(name)["event"]["data"]["object"]), **fields}


def event(event_type: str, seconds: int, described: Document, previous: Document | None = None) -> Document:
    """Return an event of its own that was created so many seconds after ten."""
    data = {"object": described, **({"previous_attributes": previous} if previous is not None else {})}
    made = {"id": f"evt_{next(_numbers):06}", "object": "event", "api_version": "2026-10-28.endive"}
    return {**made, "type": event_type, "created": AT + seconds, "livemode": False, "data": data}


def body_of(described: Document) -> bytes:
    return json.dumps(described).encode()


def received(*events: Document) -> list[Event]:
    """Return events as the endpoint reads them from hooks."""
    return [read for described in events for read in ENGINES["stripe"].read(body_of(described))]


def signed(body: bytes, *secrets: str, at: float | None = None) -> dict[str, str]:
    """Return the headers of a request with this body, signed now unless told otherwise."""
    sent = int(at if at is not None else time.time())
    made = (WebhookSignature.generate_signature_header(body.decode(), secret, sent) for secret in secrets or (SECRET,))
    signatures = ",".join(each.partition(",")[2] for each in made)
    return {"content-type": "application/json", "stripe-signature": f"t={sent},{signatures}"}


class StripeMirror(Mirror):
    """A mirror to which a Stripe account is connected."""

    clients: Mapping[str, Client] = {}

    @classmethod
    async def over(cls, database: Database, connection: asyncpg.Connection) -> StripeMirror:
        return cls(database, connection, await connection.fetchval(CONNECT))

    async def accept(self, *events: Document) -> list[bool]:
        return await inbox.accept(self.database, [(self.integration, each) for each in received(*events)])

    async def take(self, *events: Document) -> Counts:
        await self.accept(*events)
        return await self.drain().run()

    def drain(self, *, slice_size: int = 500, lease: float = 60) -> Drain:
        return Drain(self.database, self.clients, slice_size=slice_size, lease=timedelta(seconds=lease))
