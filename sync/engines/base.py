"""What a commerce engine is to the mirror.

An engine turns what it sends into events for the inbox, and the payload of an event into records. Both are pure:
no database, no network, no clock. What differs from shop to shop comes in as a `Context`.

A `Client` is its other side: it asks a running engine. What it fetches has the form of events, so that one mapping
serves hooks, backfill and reconcile.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from typing import Any, Protocol

import msgspec

from sync.errors import Reject, SyncError
from sync.records import Delivery, Entity, Record
from sync.settings import Credentials


class BadSignature(Reject):
    """The request was not signed with one of our secrets, or too long ago."""


def require_headers(headers: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise BadSignature if a request lacks one of the headers that a signed one has."""
    missing = [name for name in names if not headers.get(name)]
    if missing:
        raise BadSignature(f"The request is not signed: it lacks {', '.join(missing)}.")


class Fetch(SyncError):  # noqa: N818 - named by what to do next, as those in sync.errors
    """The engine has to be asked: a payload only names what it is about, or does not say all of it."""

    def __init__(
        self,
        entity: Entity,
        source_id: str,
        reason: str,
        *,
        at: datetime,
        otherwise: Sequence[Record] | None = None,
    ) -> None:
        super().__init__(reason)
        self.entity = entity
        self.source_id = source_id
        """As `Client.fetch` takes it."""
        self.at = at
        """When, by the engine's clock, that happened which names it: what is read after that is no older."""
        self.otherwise = otherwise
        """What will do where there are no credentials to ask with; None: it has to be asked."""


class Event(msgspec.Struct, frozen=True):
    """One thing that happened, as it goes into the inbox."""

    event_id: str
    """The sender's id of it: the same each time it is delivered."""
    event_type: str
    entity_id: str | None
    """The engine's id of what it is about."""
    payload: msgspec.Raw
    """JSON object, kept as it came."""


class Row(Protocol):
    """A row of the database."""

    def __getitem__(self, column: str, /) -> Any:
        """Return what a column holds."""


class Context(msgspec.Struct, frozen=True):
    """What reading a payload needs to know of the shop."""

    phone_region: str
    """ISO 3166 country in which a phone number without country code is read."""
    money_precision: int | None = None
    """Decimals in the engine's integer amounts; None: as many as the currency has."""
    is_test: bool | None = None
    """Of an engine with a test mode, whether that is what is mirrored; None: whichever its hooks tell of."""

    @classmethod
    def of(cls, integration: Row) -> "Context":
        """Return what a row of `mirror.list_integrations` says."""
        is_test: bool | None = None
        with suppress(KeyError):  # a schema that is to be migrated yet knows of no modes
            is_test = integration["is_test"]
        return cls(integration["phone_region"], integration["money_precision"], is_test)


class Fingerprint(msgspec.Struct, frozen=True):
    """An entity as the engine has it now, in the fewest words."""

    source_id: str
    hash: str
    """`Engine.source_hash` of it is that of the record which its document would be mapped to."""


class Sweep(msgspec.Struct, frozen=True):
    """A slice of what the engine has: those of its entities that follow a position."""

    read_at: datetime
    """By the engine's clock, before the slice was read."""
    counted: int
    """How many entities the engine counts in this slice: asked by itself, not the length of the list."""
    fingerprints: list[Fingerprint]
    position: str | None
    """Where the next slice begins; None: this was the last one."""
    events: list[Event] = []
    """What `fetch` would bring of the entities, where a list holds them whole; none: they are to be fetched."""


class Client(Protocol):
    """A running engine, to be asked and told.

    Passing faults (network, 429, 5xx) are tried again here, with backoff; what still fails raises Retry. What the
    engine refuses (credentials, a query that it does not know) raises Reject with what to do.
    """

    is_test: bool | None
    """Whether its credentials open the engine's test mode; None: it has none."""

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
    entities: tuple[Entity, ...]
    """What it has and can be asked for, in the order in which it is read: what names another thing, after that."""
    api_url: str | None
    """Where all of its kind are asked; None: each has an address of its own."""
    signature_headers: tuple[str, ...]
    """What a signed request has, in lower case: without one of them its body need not be read."""

    def check_secrets(self, secrets: list[str]) -> None:
        """Raise ValidationError (of environs) unless these are hook secrets; with no secret in it."""

    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
        """Raise BadSignature unless one of the secrets signed exactly this body, lately. Header names: lower case."""

    def read(self, body: bytes) -> list[Event]:
        """Return the events in the body of a verified hook; raise Reject saying what is wrong and where."""

    def map(self, event_type: str, payload: bytes, context: Context) -> list[Record]:
        """Return the records that a payload states.

        Raises:
            Skip: there are none for us.
            Fetch: the engine has to be asked for them.
            Reject: it cannot be read.
        """

    def source_hash(self, listed: str, context: Context) -> str:
        """Return the `source_hash` of a record from the document that a list gives this hash of."""

    def connect(self, credentials: Credentials) -> AbstractAsyncContextManager[Client]:
        """Open a client of a running engine; nothing is asked yet."""
