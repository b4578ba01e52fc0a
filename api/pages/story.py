"""What there is to say of an order, in words: first where it is, then how it came there, then what is next.

Everything is decided here, so that the templates only lay it out.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from api.pages.formats import Formats
from api.pages.words import Words
from api.tracking.told import BatchProgress, Expected, TrackedItem, TrackedOrder
from sync.records import DELIVERY_STAGES, DeliveryStage

MAX_ITEMS = 25
"""Lines of an order that are listed; the page stays small for whoever orders for a whole club."""

State = Literal["done", "now", "later", "off"]


class Station(msgspec.Struct, frozen=True):
    """A stage on the way of an order."""

    name: str
    state: State
    time: str | None = None
    machine_time: str | None = None
    notes: tuple[str, ...] = ()
    """When it is usually reached, and where that is known from."""


class Group(msgspec.Struct, frozen=True):
    """The batch that an order travels in."""

    number: str
    lead: str
    says: str
    progress: str
    orders: int
    target: int | None


class Parcel(msgspec.Struct, frozen=True):
    """What the carrier knows an order by."""

    carrier: str | None
    number: str | None
    url: str | None
    follow: str


class Line(msgspec.Struct, frozen=True):
    """An item."""

    quantity: str
    name: str
    variant: str | None
    print: str | None


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """An order, told."""

    code: str
    version: str
    headline: str
    lead: str
    next: tuple[str, str] | None
    """What comes next, and when it usually does."""
    is_cancelled: bool
    is_delayed: bool
    reached: int
    """How many stages lie behind the present one."""
    stations: list[Station]
    placed: str
    parcel: Parcel | None
    group: Group | None
    lines: list[Line]
    more: str | None
    """How many items are not listed."""
    total: str | None


class Teller:
    """Tells orders of a store in a language."""

    def __init__(self, words: Words, formats: Formats, shop: str, now: datetime) -> None:
        self._words = words
        self._formats = formats
        self._shop = shop
        self._now = now

    def tell(self, order: TrackedOrder) -> Story:
        """Return what there is to say of an order."""
        stations = list(self._stations(order))
        return Story(
            code=order.order_code,
            version=order.version,
            headline=self._headline(order),
            lead=self._lead(order),
            next=next((self._next(station) for station in stations if station.notes), None),
            is_cancelled=order.cancelled_at is not None,
            is_delayed=order.is_delayed and order.cancelled_at is None,
            reached=DELIVERY_STAGES.index(order.stage),
            stations=stations,
            placed=self._words.text("order.placed", date=self._day(order.placed_at)),
            parcel=self._parcel(order),
            group=self._group(order.batch) if order.batch and not order.cancelled_at else None,
            lines=[self._line(item) for item in order.items[:MAX_ITEMS]],
            more=self._more(order.items),
            total=None if order.total_with_tax is None else self._formats.money(order.total_with_tax, order.currency),
        )

    def _headline(self, order: TrackedOrder) -> str:
        return self._words.text("cancelled.headline" if order.cancelled_at else f"stages.{order.stage}.headline")

    def _lead(self, order: TrackedOrder) -> str:
        if order.cancelled_at:
            return self._words.text("cancelled.lead", date=self._day(order.cancelled_at), shop=self._shop)
        return self._words.text(f"stages.{order.stage}.lead", shop=self._shop)

    def _next(self, station: Station) -> tuple[str, str]:
        return self._words.text("order.next", stage=station.name), station.notes[0]

    def _stations(self, order: TrackedOrder) -> Iterator[Station]:
        """Yield the five stages; of a cancelled order those that it reached, and its end."""
        for step in order.timeline:
            state = _state(step.stage, order)
            if state != "later":
                yield self._timed(self._stage(step.stage), state, step.reached_at)
            elif not order.cancelled_at:
                yield Station(self._stage(step.stage), state, notes=tuple(self._notes(step.stage, order)))
        if order.cancelled_at:
            yield self._timed(self._words.text("cancelled.name"), "off", order.cancelled_at)

    def _timed(self, name: str, state: State, at: datetime | None) -> Station:
        if at is None:
            return Station(name, state)
        return Station(name, state, self._formats.moment(at, self._now), self._formats.local(at))

    def _notes(self, stage: DeliveryStage, order: TrackedOrder) -> Iterator[str]:
        """Say when a stage to come is usually reached, and that nobody promises it."""
        if order.expected and order.expected.stage == stage:
            yield self._usually(order.expected)
            yield self._words.text("order.based_on", n=order.expected.based_on)
        elif order.eta and stage == DELIVERY_STAGES[-1] and not order.is_delayed:
            yield self._words.text("order.expected", date=self._formats.day(order.eta, self._now))

    def _usually(self, expected: Expected) -> str:
        earliest, latest = (self._formats.day_of(at) for at in (expected.earliest, expected.latest))
        if earliest == latest:
            return self._words.text("order.usually_around", date=self._day(expected.latest))
        if earliest <= self._formats.day_of(self._now):
            return self._words.text("order.usually_by", date=self._day(expected.latest))
        interval = self._formats.interval(expected.earliest, expected.latest, self._now)
        return self._words.text("order.usually", range=interval)

    def _parcel(self, order: TrackedOrder) -> Parcel | None:
        if order.tracking_number is None and order.carrier is None:
            return None
        follow = (
            self._words.text("parcel.follow_carrier", carrier=order.carrier)
            if order.carrier
            else self._words.text("parcel.follow")
        )
        return Parcel(order.carrier, order.tracking_number, web_address(order.carrier_url), follow)

    def _group(self, batch: BatchProgress) -> Group | None:
        is_full = batch.state == "collecting" and batch.target is not None and batch.orders >= batch.target
        key = "batch.full" if is_full else f"batch.{batch.state}"
        if not self._words.has(key):
            return None
        says = [self._words.text(key)]
        if batch.arrives_on and batch.state != "arrived" and batch.arrives_on >= self._formats.day_of(self._now):
            says.append(self._words.text("batch.arrives", date=self._formats.day(batch.arrives_on, self._now)))
        return Group(
            number=self._words.text("batch.number", number=batch.number),
            lead=self._words.text("batch.lead"),
            says=" ".join(says),
            progress=self._progress(batch),
            orders=batch.orders,
            target=batch.target if batch.state == "collecting" else None,
        )

    def _progress(self, batch: BatchProgress) -> str:
        if batch.target is None or batch.state != "collecting":
            return self._words.text("batch.orders", n=batch.orders)
        return self._words.text("batch.progress", orders=batch.orders, target=batch.target)

    def _line(self, item: TrackedItem) -> Line:
        variant = item.variant_name if item.variant_name != item.product_name else None
        printed = " ".join(part for part in (item.print_name, item.print_number) if part)
        return Line(self._formats.number(item.quantity), item.product_name, variant, printed or None)

    def _more(self, items: list[TrackedItem]) -> str | None:
        left = len(items) - MAX_ITEMS
        return self._words.text("order.more", n=left) if left > 0 else None

    def _stage(self, stage: DeliveryStage) -> str:
        return self._words.text(f"stages.{stage}.name")

    def _day(self, moment: datetime) -> str:
        return self._formats.day(self._formats.day_of(moment), self._now)


def web_address(url: str | None) -> str | None:
    """Return the address of a web site, and of nothing else: `javascript:` would be one, too."""
    return url if url and urlsplit(url).scheme in {"http", "https"} else None


def _state(stage: DeliveryStage, order: TrackedOrder) -> State:
    order_of = DELIVERY_STAGES.index
    if order_of(stage) > order_of(order.stage):
        return "later"
    is_over = order.cancelled_at is not None or order.stage == DELIVERY_STAGES[-1]
    return "done" if is_over or stage != order.stage else "now"
