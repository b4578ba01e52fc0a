"""The orders, to those who prove that they may see them.

Whoever knows the code of an order and a phone number of it may see it, and so may who holds a link that the shop
signed, without what would tell about people. Whoever guesses learns nothing: an unknown code, a wrong phone number,
one that is none and a forged link are the same answer after the same time.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote
from uuid import UUID

import msgspec

from api.problems import UnknownOrderError
from api.stores import Store, Stores
from api.tracking.told import TrackedOrder, versioned
from sync.database import Database
from sync.deadline import within
from sync.links import BadLinkError, Links
from sync.phones import phone_digits

PATIENCE_SECONDS = 3.0

MISS_SECONDS = 0.1
"""A miss is answered at a multiple of this after its arrival: well above what the look-up takes, so that how long
it took does not show."""

MAX_LENGTH = 200

PHONE, LINK, NONE = "phone", "link", "none"
"""Proofs, as `mirror.track_orders` names them; any other name matches nothing."""

_orders = msgspec.json.Decoder(TrackedOrder)


class Question(msgspec.Struct, frozen=True):
    """An order that somebody asks for, and by which proof."""

    store: Store | None
    code: str
    proof: str
    phone: str = ""
    """Digits with country code."""


class Found(msgspec.Struct, frozen=True):
    """The answer, and what it depends on."""

    order: TrackedOrder
    order_id: UUID
    batch_id: UUID | None


class Orders:
    """The orders as their customers may see them."""

    def __init__(self, database: Database, stores: Stores, links: Links) -> None:
        self._database = database
        self._stores = stores
        self._links = links

    async def find(self, code: str, *, phone: str, store: str | None = None) -> TrackedOrder:
        """Return the order of this code and phone number, as one dials it.

        Raises:
            UnknownOrderError: there is none; after a time that tells nothing.
            Retry: the database is away.
        """
        async with _alike():
            return await self._answer(await self.by_phone(code, phone, store))

    async def find_by_link(self, code: str, *, link: str, store: str | None = None) -> TrackedOrder:
        """Return the order that this link was signed for, without what would tell about people.

        Raises:
            UnknownOrderError: there is none, or the link is forged; after a time that tells nothing.
            ExpiredLinkError: the link was right until it expired.
            Retry: the database is away.
        """
        async with _alike():
            return await self._answer(await self.by_link(code, link, store))

    async def by_phone(self, code: str, phone: str, store: str | None) -> Question:
        """Return the question of who knows a phone number of the order."""
        asked = await self._stores.find(store)
        digits = phone_digits(_dialled(phone[:MAX_LENGTH]), asked.phone_region) if asked else None
        return Question(asked, _storable(code), PHONE, digits or "")

    async def by_link(self, code: str, link: str, store: str | None) -> Question:
        """Return the question of who holds a link to the order; raise ExpiredLinkError if it was right until then."""
        asked = await self._stores.find(store)
        try:
            self._links.check(link, asked.slug if asked else "", code)
        except BadLinkError:
            return Question(asked, _storable(code), NONE)
        return Question(asked, _storable(code), LINK)

    async def look_up(self, question: Question) -> Found | None:
        """Return what is to be told now; raise Retry if the database is away.

        It is asked even if it is clear that nothing will be found: a miss takes one path.
        """
        asking = self._database.rows(
            "track_orders",
            p_stores=[question.store.slug if question.store else ""],
            p_codes=[question.code],
            p_proofs=[question.proof],
            p_phones=[question.phone],
        )
        rows = await within(PATIENCE_SECONDS, asking)
        if not rows or question.store is None:
            return None
        order = _orders.decode(rows[0]["told"])
        order.carrier_url = _carrier_url(question.store, order)
        return Found(versioned(order), rows[0]["order_id"], rows[0]["batch_id"])

    async def _answer(self, question: Question) -> TrackedOrder:
        found = await self.look_up(question)
        if found is None:
            raise UnknownOrderError
        return found.order


def _carrier_url(store: Store, order: TrackedOrder) -> str | None:
    """Return where the carrier tells of the parcel, if the store knows; names of carriers are compared loosely."""
    if not order.carrier or not order.tracking_number:
        return None
    wanted = order.carrier.strip().casefold()
    for name, address in store.carrier_links.items():
        if name.strip().casefold() == wanted:
            return address.replace("{number}", quote(order.tracking_number, safe=""))
    return None


def _dialled(phone: str) -> str:
    """Give back the plus of +94…: in a query string it means a space unless it is escaped, which many forget."""
    return "+" + phone[1:] if phone.startswith(" ") else phone


def _storable(text: str) -> str:
    """Return a text that Postgres takes as an argument, and that matches nothing if it was none."""
    return text[:MAX_LENGTH].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


@asynccontextmanager
async def _alike() -> AsyncIterator[None]:
    """Let an unknown order be told at a multiple of MISS_SECONDS only."""
    arrived = time.monotonic()
    try:
        yield
    except UnknownOrderError:
        await _until_next(arrived, MISS_SECONDS)
        raise


async def _until_next(arrived: float, seconds: float) -> None:
    """Sleep until the next multiple of so many seconds after the arrival, on a finer clock than uvloop's own."""
    waited = time.monotonic() - arrived
    await asyncio.sleep(max(1, math.ceil(waited / seconds)) * seconds - waited)
