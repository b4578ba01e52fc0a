"""The orders, to those who prove that they may see them.

Whoever knows the code of an order and a phone number of it may see it; so may who holds a token that the order's
customer got for proving that number (docs/otp.md), and, without what would tell about people, who holds a link that
the shop signed (docs/tracking.md). Whoever guesses learns nothing: an unknown code, another's order, a wrong phone
number, one that is none and a forged link are the same answer after the same time.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote
from uuid import UUID

import msgspec

from api.errors import BadTokenError, ExpiredLinkError, UnknownOrderError
from api.limits.limits import Limits
from api.stores import Store, Stores
from api.tokens import Tokens
from api.tracking.lookups import Lookups, Question
from api.tracking.told import TrackedOrder, give_version, leave_people_out
from sync.links import BadLinkError, Links, OldLinkError
from sync.phones import phone_digits

MISS_SECONDS = 0.1
"""A miss is answered at a multiple of this after its arrival: well above what the look-up takes, so that how long
it took does not show."""

MAX_LENGTH = 200
MAX_TOKEN_LENGTH = 4096

PHONE, TOKEN, LINK, NONE = "phone", "token", "link", "none"
"""Proofs, as `mirror.track_orders` names them; the last one opens nothing."""

_orders = msgspec.json.Decoder(TrackedOrder)


class Asked(msgspec.Struct, frozen=True):
    """A question that may be asked again, for as long as its proof holds."""

    store: Store | None
    question: Question
    until: float | None = None
    """The moment at which the proof expires, in seconds since 1970."""


class Found(msgspec.Struct, frozen=True):
    """The answer, and what it depends on."""

    order: TrackedOrder
    order_id: UUID
    batch_id: UUID | None


class Orders:
    """The orders as their customers may see them."""

    def __init__(self, lookups: Lookups, stores: Stores, links: Links, tokens: Tokens | None, limits: Limits) -> None:
        self._lookups = lookups
        self._stores = stores
        self._links = links
        self._tokens = tokens
        self._limits = limits

    async def find(self, code: str, *, phone: str, store: str | None = None) -> TrackedOrder:
        """Return the order of this code and phone number, as one dials it.

        Raises:
            UnknownOrderError: there is none; after a time that tells nothing.
            Retry: the database is away.
        """
        return (await self.found(await self.by_phone(code, phone, store))).order

    async def find_by_link(self, code: str, *, link: str, store: str | None = None) -> TrackedOrder:
        """Return the order that this link was signed for, without what would tell about people.

        Raises:
            UnknownOrderError: there is none, or the link is forged; after a time that tells nothing.
            ExpiredLinkError: the link was right until it expired.
            Retry: the database is away.
        """
        return (await self.found(await self.by_link(code, link, store))).order

    async def found(self, asked: Asked) -> Found:
        """Return what is to be told; raise UnknownOrderError, after a time that tells nothing, or Retry.

        Raise TooManyRequestsError, without having looked, where too many have guessed.
        """
        async with _alike(), self._limits.guess(*_guessable(asked.question)) as guess:
            found = await self.look_up(asked)
            guess.is_right = found is not None
            if found is None:
                raise UnknownOrderError
            return found

    async def look_up(self, asked: Asked) -> Found | None:
        """Return what is to be told now; raise Retry if the database is away.

        It is asked even if it is clear that nothing will be found: a miss takes one path.
        """
        row = await self._lookups.ask(asked.question)
        if row is None or asked.store is None:
            return None
        order = _orders.decode(row["told"])
        order.carrier_url = _carrier_url(asked.store, order)
        give_version(order, row["order_id"])
        if asked.question.proof == LINK:
            leave_people_out(order)
        return Found(order, row["order_id"], row["batch_id"])

    async def by_phone(self, code: str, phone: str, store: str | None) -> Asked:
        """Return the question of who knows a phone number of the order, as one dials it."""
        asked = await self._stores.find(store)
        digits = phone_digits(_dialled(phone[:MAX_LENGTH]), asked.phone_region) if asked else None
        return _asked(asked, code, PHONE, digits or "")

    async def by_token(self, code: str, token: str, store: str | None) -> Asked:
        """Return the question of who has a token of ours; raise BadTokenError if it is none, or no longer holds."""
        if self._tokens is None or len(token) > MAX_TOKEN_LENGTH:
            raise BadTokenError
        proved = self._tokens.read(token)
        asked = await self._stores.find_by_id(proved.store_id)
        is_meant = asked is not None and store in {None, asked.slug}
        return _asked(asked, code, TOKEN if is_meant else NONE, proved.phone, proved.until)

    async def by_link(self, code: str, link: str, store: str | None) -> Asked:
        """Return the question of who holds a link to the order; raise ExpiredLinkError if it was right until then."""
        asked = await self._stores.find(store)
        try:
            until = self._links.check(link[:MAX_LENGTH], asked.slug if asked else "", code)
        except OldLinkError:
            raise ExpiredLinkError from None
        except BadLinkError:
            return _asked(asked, code, NONE)
        return _asked(asked, code, LINK, until=until)


def _asked(store: Store | None, code: str, proof: str, phone: str = "", until: float | None = None) -> Asked:
    return Asked(store, Question(store.slug if store else "", _storable(code), proof, phone), until)


def _guessable(question: Question) -> list[str]:
    """Return what a question may be a guess at; nobody guesses a token, or what a link was signed with.

    Where there is no number (what was entered is none, or a link was cut off on its way) it counts at the order twice,
    and not at a number that all of these would share: whoever asks can tell no difference.
    """
    if question.proof in {TOKEN, LINK}:
        return []
    order = f"order {question.store} {question.code}"
    return [order, f"phone {question.phone or order}"]


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
