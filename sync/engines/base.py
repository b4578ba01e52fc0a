"""What a commerce engine is to the mirror.

An engine turns what it sends into events for the inbox, and the payload of an event into records. Both are pure:
no database, no network, no clock. What differs from shop to shop comes in as a `Context`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from sync.errors import Reject
from sync.records import Record


class BadSignature(Reject):
    """The request was not signed with one of our secrets, or too long ago."""


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


class Engine(Protocol):
    """A commerce engine."""

    name: str
    """As in the enum `public.commerce_engine`."""

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
        """Raise BadSignature unless one of the secrets signed exactly this body, lately. Header names: lower case."""

    def read(self, body: bytes) -> list[Event]:
        """Return the events in the body of a verified hook; raise Reject saying what is wrong and where."""

    def map(self, event_type: str, payload: bytes, context: Context) -> list[Record]:
        """Return the records that a payload states; raise Skip if there are none for us, Reject if it cannot be."""
