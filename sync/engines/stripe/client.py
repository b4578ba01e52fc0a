"""A Stripe account, to be asked: a `sync.engines.base.Client` over Stripe's lists.

Stripe lists the newest first, a hundred at a time, and each page begins after the last object of the one before: what
is made meanwhile does not move anything. It counts nothing. So what it has is counted by going through its lists once
more, from the newest; that is what a run's receipts are held against (`docs/decisions/0024-stripe-as-an-engine.md`).

Faults that pass are tried again here, later, for up to PATIENCE_SECONDS since the last answer; then the last of them is
raised, a Retry.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

import msgspec
import stripe
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_before_delay, wait_random_exponential

from sync.engines.base import Client, Context, Event, Fingerprint, Sweep
from sync.engines.stripe.api import Answer, Clock, Final, Missing, ask
from sync.engines.stripe.mapping import READ, map_event
from sync.errors import Reject, Retry, SyncError
from sync.records import Delivery, Entity, ProviderRecord
from sync.settings import Credentials

PATIENCE_SECONDS = 60.0
REQUEST_SECONDS = 30.0
rest = wait_random_exponential(multiplier=0.5, max=10)
"""Seconds between attempts: at random up to half a second, twice that, and so on."""

LANES = 4
"""Of the hundred requests a second that Stripe allows an account, the shop needs most."""
PAGE = 100
"""As many as Stripe gives at once."""
COUNT_SECONDS = 3600.0
"""So long a count is gone on with, where nothing that was counted can be deleted."""

TEST_KEYS = ("sk_test_", "rk_test_")
LIVE_KEYS = ("sk_live_", "rk_live_")

CHARGES = ("ch_", "py_")
"""What the ids of charges begin with: py_ where no card was charged."""

ANYWHERE = Context(phone_region="ZZ")
"""Reading Stripe's objects needs to know nothing of the shop."""


class Service(Protocol):
    """What the library's services have in common."""

    def list_async(self, params: Any) -> Any:
        """Ask for a page."""

    def retrieve_async(self, id: str, params: Any) -> Any:
        """Ask for one object."""


class Listing(msgspec.Struct, frozen=True):
    """A list of Stripe's, and how we read it."""

    kind: str
    """What its objects are."""
    prefix: str | tuple[str, ...]
    """What their ids begin with."""
    service: Callable[[stripe.StripeClient], Service]
    filters: dict[str, Any] = {}
    expand: tuple[str, ...] = ()
    """What is to come with an object instead of its id."""
    is_deletable: bool = False


LISTINGS: dict[Entity, tuple[Listing, ...]] = {
    "plan": (
        Listing("price", "price_", lambda api: api.v1.prices, {"type": "recurring"}, ("product",), is_deletable=True),
    ),
    "subscription": (Listing("subscription", "sub_", lambda api: api.v1.subscriptions, {"status": "all"}),),
    "payment": (
        Listing("payment_intent", "pi_", lambda api: api.v1.payment_intents, expand=("latest_charge",)),
        Listing("charge", CHARGES, lambda api: api.v1.charges),
    ),
    "refund": (Listing("refund", "re_", lambda api: api.v1.refunds),),
    "invoice": (Listing("invoice", "in_", lambda api: api.v1.invoices, expand=("payments",), is_deletable=True),),
}
"""Where each of our entities is listed. A charge without an intent is a payment, too; the others are their intents'."""


class Listed(msgspec.Struct):
    """An object in a list."""

    id: str
    created: int = 0
    livemode: bool | None = None
    payment_intent: Any = None

    @property
    def is_of_intent(self) -> bool:
        """Whether it is a charge that its payment intent stands for."""
        return self.id.startswith(CHARGES) and self.payment_intent is not None


class Page(msgspec.Struct):
    """A page of a list."""

    data: list[msgspec.Raw]
    has_more: bool


_pages = msgspec.json.Decoder(Page)
_listed = msgspec.json.Decoder(Listed)


class _Count(msgspec.Struct):
    """What has been counted of a list."""

    number: int
    newest: str
    counted_at: float


@asynccontextmanager
async def connect(credentials: Credentials) -> AsyncIterator[Client]:
    """Open a client of an account; nothing is asked yet."""
    http = stripe.HTTPXClient(timeout=REQUEST_SECONDS)
    try:
        api = stripe.StripeClient(
            credentials.api_key or "",
            base_addresses={"api": credentials.api_url.rstrip("/")},
            http_client=http,
            max_network_retries=0,  # who asks for what, and how often, is said here
        )
        yield AccountClient(api, credentials.api_key or "")
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]


class AccountClient:
    """The account that an API key opens, in the mode that it opens."""

    def __init__(self, api: stripe.StripeClient, key: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._api = api
        self._patience_seconds = patience_seconds
        self._lanes = asyncio.Semaphore(LANES)
        self._clock = Clock()
        self._counts: dict[str, _Count] = {}
        is_known = key.startswith((*TEST_KEYS, *LIVE_KEYS))
        self.is_test: bool | None = key.startswith(TEST_KEYS) if is_known else None

    async def count(self, entity: Entity, *, since: datetime | None = None) -> int:
        """Return how many there are, or were made since then, by going through the lists."""
        return sum([await self._count(listing, since) for listing in LISTINGS[entity]])

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        """Return a page of a list; its position is the list's number and the page's last object."""
        number, _, cursor = (position or "0").partition(":")
        listings = LISTINGS[entity]
        listing = listings[int(number)]
        expand = [f"data.{name}" for name in listing.expand]
        answer = await self._page(
            listing, since, limit=min(limit, PAGE), **_from(cursor), **({"expand": expand} if expand else {})
        )
        page = _pages.decode(answer.body)
        objects = [_listed.decode(raw) for raw in page.data]
        events = [
            self._read(listing, raw, each, answer.read_at)
            for raw, each in zip(page.data, objects, strict=True)
            if not each.is_of_intent
        ]
        following = f"{number}:{objects[-1].id}:{objects[-1].created}" if page.has_more and objects else None
        if following is None and int(number) + 1 < len(listings):
            following = str(int(number) + 1)
        fingerprints = [Fingerprint(event.entity_id or "", _hash(event)) for event in events]
        return Sweep(answer.read_at, len(fingerprints), fingerprints, following, events)

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        """Return objects as they are now, and of a product its prices; each is asked for by itself."""
        found = await asyncio.gather(*(self._fetch(entity, source_id) for source_id in dict.fromkeys(source_ids)))
        return [event for events in found for event in events]

    async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
        raise Reject("Stripe knows of no deliveries.")

    async def _fetch(self, entity: Entity, source_id: str) -> list[Event]:
        listings = LISTINGS[entity]
        if source_id.startswith("prod_"):
            return await self._prices(listings[0], source_id)
        listing = next((each for each in listings if source_id.startswith(each.prefix)), listings[0])
        params = {"expand": list(listing.expand)} if listing.expand else {}
        try:
            answer = await self._ask(lambda: listing.service(self._api).retrieve_async(source_id, params))
        except Missing:
            gone = msgspec.json.encode({"id": source_id, "object": listing.kind, "deleted": True})
            read_at = (await self._page(listing, None, limit=1)).read_at  # an error does not tell the time
            return [self._read(listing, msgspec.Raw(gone), Listed(source_id), read_at)]
        return [self._read(listing, msgspec.Raw(answer.body), _listed.decode(answer.body), answer.read_at)]

    async def _prices(self, listing: Listing, product: str) -> list[Event]:
        events: list[Event] = []
        cursor: dict[str, Any] = {}
        while True:
            expand = [f"data.{name}" for name in listing.expand]
            answer = await self._page(listing, None, limit=PAGE, product=product, expand=expand, **cursor)
            page = _pages.decode(answer.body)
            events += [self._read(listing, raw, _listed.decode(raw), answer.read_at) for raw in page.data]
            if not page.has_more or not page.data:
                return events
            cursor = {"starting_after": events[-1].entity_id}

    async def _count(self, listing: Listing, since: datetime | None) -> int:
        """Count a list, from where it was counted before if that was lately and nothing of it can be deleted."""
        known = None if listing.is_deletable or since else self._counts.get(listing.kind)
        if known and time.monotonic() - known.counted_at < COUNT_SECONDS:
            try:
                number, newest = await self._walk(listing, since, "ending_before", known.newest)
            except Missing:  # the data of a test mode can all be deleted
                known = None
            else:
                self._counts[listing.kind] = _Count(known.number + number, newest or known.newest, known.counted_at)
                return known.number + number
        number, newest = await self._walk(listing, since, "starting_after", None)
        if newest and not since:
            self._counts[listing.kind] = _Count(number, newest, time.monotonic())
        return number

    async def _walk(
        self, listing: Listing, since: datetime | None, direction: str, cursor: str | None
    ) -> tuple[int, str | None]:
        """Go through a list from a cursor, in its order or against it; return how many there are, and the newest."""
        number = 0
        newest: str | None = None
        while True:
            step = {direction: cursor} if cursor else {}
            page = _pages.decode((await self._page(listing, since, limit=PAGE, **step)).body)
            objects = [_listed.decode(raw) for raw in page.data]
            number += sum(not each.is_of_intent for each in objects)
            if objects and (direction == "ending_before" or newest is None):
                newest = objects[0].id
            if not page.has_more or not objects:
                return number, newest
            cursor = objects[0].id if direction == "ending_before" else objects[-1].id

    async def _page(self, listing: Listing, since: datetime | None, **params: Any) -> Answer:
        """Ask for a page; where the object that it follows was deleted, for what was made no later than that."""
        made_by = params.pop("made_by", None)
        made = {"created": {"gte": int(since.timestamp())}} if since else {}
        given = {**listing.filters, **made, **params}
        service = listing.service(self._api)
        try:
            return await self._ask(lambda: service.list_async(given))
        except Missing:
            if made_by is None:
                raise
        del given["starting_after"]
        given["created"] = {**given.get("created", {}), "lte": made_by}
        return await self._ask(lambda: service.list_async(given))

    def _read(self, listing: Listing, raw: msgspec.Raw, listed: Listed, read_at: datetime) -> Event:
        """Return an object as an event that says how it is now."""
        kind = f"{listing.kind}{READ}"
        is_live = not self.is_test if listed.livemode is None else listed.livemode
        event_id = f"{listed.id} read {read_at.isoformat()}"
        event = {
            "id": event_id,
            "object": "event",
            "type": kind,
            "created": read_at.isoformat(),
            "livemode": is_live,
            "data": {"object": raw},
        }
        return Event(event_id, kind, listed.id, msgspec.Raw(msgspec.json.encode(event)))

    async def _ask(self, call: Callable[[], Any]) -> Answer:
        """Return what a call is answered; try again what fails with Retry, until patience ends."""
        attempts = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, Retry) and not isinstance(error, Final)),
            wait=_rest,
            stop=stop_before_delay(self._patience_seconds),
            reraise=True,
        )
        async with self._lanes:
            return await attempts(ask, call, self._clock)


def _from(cursor: str) -> dict[str, Any]:
    """Return the parameters that a position becomes."""
    source_id, _, created = cursor.partition(":")
    return {"starting_after": source_id, "made_by": int(created)} if source_id else {}


def _hash(event: Event) -> str:
    """Return the hash of the record that an object becomes; none for one that becomes none."""
    try:
        (record, *_) = map_event(event.event_type, bytes(event.payload), ANYWHERE)
    except SyncError:
        return ""
    return (record.source_hash or "") if isinstance(record, ProviderRecord) else ""


def _rest(state: RetryCallState) -> float:
    """Return the seconds to rest after a failure: as many as Stripe asked for, or more."""
    fault = state.outcome.exception() if state.outcome else None
    asked_for = fault.after if isinstance(fault, Retry) else None
    return (asked_for or 0) + rest(state)
