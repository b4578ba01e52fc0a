"""What a commerce engine is to the mirror.

An engine turns what it sends into events for the inbox, and the payload of an event into records. Both are pure:
no database, no network, no clock. What differs from shop to shop comes in as a `Context`.

A `Client` is its other side: it asks a running engine. What it fetches has the form of events, so that one mapping
serves hooks, backfill and reconcile.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import msgspec

from sync.errors import Reject
from sync.records import Delivery, Entity, Record
from sync.settings import Credentials


class BadSignature(Reject):
    """The request was not signed with one of our secrets, or too long ago."""


def require_headers(headers: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise BadSignature if a request lacks one of the headers that a signed one has."""
    missing = [name for name in names if not headers.get(name)]
    if missing:
        raise BadSignature(f"The request is not signed: it lacks {', '.join(missing)}.")


class Event(msgspec.Struct, frozen=True):
    """One thing that happened, as it goes into the inbox."""

    event_id: str
    """The sender's id of it: the same each time it is delivered."""
    event_type: str
    entity_id: str | None
    """The engine's id of what it is about."""
    payload: msgspec.Raw
    """JSON object, kept as it came."""


class Context(msgspec.Struct, frozen=True):
    """What reading a payload needs to know of the shop."""

    phone_region: str
    """ISO 3166 country in which a phone number without country code is read."""
    money_precision: int | None = None
    """Decimals in the engine's integer amounts; None: as many as the currency has."""


class Fingerprint(msgspec.Struct, frozen=True):
    """An entity as the engine has it now, in the fewest words."""

    source_id: str
    source_hash: str
    """Equal to that of the record which its document would be mapped to."""


class Sweep(msgspec.Struct, frozen=True):
    """A slice of what the engine has: those of its entities that follow a position."""

    read_at: datetime
    """By the engine's clock, before the slice was read."""
    counted: int
    """How many entities the engine counts in this slice: asked by itself, not the length of the list."""
    fingerprints: list[Fingerprint]
    position: str | None
    """Where the next slice begins; None: this was the last one."""


class Client(Protocol):
    """A running engine, to be asked and told.

    Passing faults (network, 429, 5xx) are tried again here, with backoff; what still fails raises Retry. What the
    engine refuses (credentials, a query that it does not know) raises Reject with what to do.
    """

    async def count(self, entity: Entity, *, since: datetime | None = None) -> int:
        """Return how many entities a sweep will meet: customers that are not deleted, or placed orders."""

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        """Return the slice after `position`; with `since`, of what was placed, registered or touched after that."""

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        """Return what hooks would say of these entities now; those that the engine no longer has come as deletions.

        In no order. One that the engine has, but cannot read, is missing.
        """

    async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
        """Set an order's stage and tracking number; raise Reject if the engine refuses them."""


class Engine(Protocol):
    """A commerce engine."""

    name: str
    """As in the enum `public.commerce_engine`."""
    signature_headers: tuple[str, ...]
    """What a signed request has, in lower case: without one of them its body need not be read."""

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
        """Raise BadSignature unless one of the secrets signed exactly this body, lately. Header names: lower case."""

    def read(self, body: bytes) -> list[Event]:
        """Return the events in the body of a verified hook; raise Reject saying what is wrong and where."""

    def map(self, event_type: str, payload: bytes, context: Context) -> list[Record]:
        """Return the records that a payload states; raise Skip if there are none for us, Reject if it cannot be."""

    def connect(self, credentials: Credentials) -> AbstractAsyncContextManager[Client]:
        """Open a client of a running engine; nothing is asked yet."""
