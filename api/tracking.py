"""`GET /orders/{code}?phone=…`: where is my order?

Whoever knows the code of an order and a phone number of it may see it. Whoever guesses learns nothing: an unknown code,
a wrong phone number and one that is none are the same answer after the same time.
"""

import asyncio
import math
import time
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter

from api.cached import Cached
from api.problems import UnknownOrderError
from sync.database import Database
from sync.deadline import within
from sync.phones import phone_digits
from sync.records import DeliveryStage

PATIENCE_SECONDS = 3.0

MISS_SECONDS = 0.1
"""A miss is answered at a multiple of this after its arrival: well above what the look-up takes, so that how long
it took does not show."""

MAX_LENGTH = 200

Code = Annotated[str, PathParameter(description="The order's code, as in its confirmation.")]
Phone = Annotated[str, QueryParameter(description="A phone number of the order, as one dials it.")]
Store = Annotated[str | None, QueryParameter(description="The store's slug; the first store without it.")]


class Step(msgspec.Struct):
    """One of the five stages of a delivery."""

    stage: DeliveryStage
    reached_at: datetime | None
    """None: not yet, or it was passed over."""


class TrackedItem(msgspec.Struct):
    """A line of the order."""

    product_name: str
    variant_name: str | None
    quantity: int
    print_name: str | None
    print_number: str | None


class TrackedOrder(msgspec.Struct):
    """Where an order is."""

    order_code: str
    placed_at: datetime
    cancelled_at: datetime | None
    stage: DeliveryStage
    timeline: list[Step]
    tracking_number: str | None
    """Told once the order is dispatched; so is the carrier."""
    carrier: str | None
    currency: str
    total_with_tax: str
    """In major units, exactly."""
    items: list[TrackedItem]


_orders = msgspec.json.Decoder(TrackedOrder)


def tracking_route(database: Database) -> HTTPRouteHandler:
    """Return the route that tells where an order is."""
    orders = Orders(database)

    @get("/orders/{code:str}", tags=["tracking"])
    async def track_order(code: Code, phone: Phone, store: Store = None) -> Response[TrackedOrder]:
        """Tell where an order is to whoever knows its code and a phone number of it."""
        arrived = time.monotonic()
        order = await orders.find(code, phone, store)
        if order is None:
            await _until_next(arrived, MISS_SECONDS)
            raise UnknownOrderError
        return Response(order, headers={"Cache-Control": "no-store"})

    return track_order


class Orders:
    """The orders as their customers may see them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._regions = Cached(self._read_regions)

    async def find(self, code: str, phone: str, store: str | None) -> TrackedOrder | None:
        """Return the order of this code and phone number; raise Retry if the database is away."""
        regions = await self._regions.get()
        slug = store if store is not None else next(iter(regions), "")
        digits = phone_digits(_dialled(phone[:MAX_LENGTH]), regions.get(slug, "")) or ""
        found = await within(PATIENCE_SECONDS, self._track(slug, code, digits))
        return None if found is None else _orders.decode(found)

    async def _track(self, slug: str, code: str, digits: str) -> Any:
        """Ask the database, even if it is clear that nothing will be found: a miss takes one path."""
        return await self._database.call(
            "track_order",
            p_store_slug=_storable(slug),
            p_order_code=_storable(code),
            p_phone=digits,
        )

    async def _read_regions(self) -> dict[str, str]:
        rows = await self._database.rows("list_stores")
        return {row["slug"]: row["phone_region"] for row in rows}


def _dialled(phone: str) -> str:
    """Give back the plus of +94…: in a query string it means a space unless it is escaped, which many forget."""
    return "+" + phone[1:] if phone.startswith(" ") else phone


def _storable(text: str) -> str:
    """Return a text that Postgres takes as an argument, and that matches nothing if it was none."""
    return text[:MAX_LENGTH].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


async def _until_next(arrived: float, seconds: float) -> None:
    """Sleep until the next multiple of so many seconds after the arrival, on a finer clock than uvloop's own."""
    waited = time.monotonic() - arrived
    await asyncio.sleep(max(1, math.ceil(waited / seconds)) * seconds - waited)
