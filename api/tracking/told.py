"""What is told of an order: to whoever may know, by JSON, by server-sent events and on the page, in the same words."""

from datetime import date, datetime
from hashlib import blake2b
from uuid import UUID

import msgspec

from sync.records import DeliveryStage

VERSION_BYTES = 12


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
    """None by link; so is the number."""
    print_number: str | None


class Expected(msgspec.Struct):
    """The step that comes next, as it usually did: a range, and no promise."""

    stage: DeliveryStage
    earliest: datetime
    """Half of the past deliveries (or import batches) had made this step after so long."""
    latest: datetime
    """Nine of ten had."""
    based_on: int
    """How many these were: five at least."""


class BatchProgress(msgspec.Struct):
    """The import batch that the order is in, until it is dispatched."""

    number: str
    state: str
    """collecting, orderedFromSupplier, inTransit, arrived, dispatched or completed."""
    orders: int
    target: int | None
    """With so many it is ordered; None: whenever the shop decides."""
    arrives_on: date | None
    """The day that the shop names."""


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
    total_with_tax: str | None
    """In major units, exactly. None by link."""
    items: list[TrackedItem]
    eta: date | None
    """The day on which the shop says that the parcel may be expected."""
    is_delayed: bool
    """A day that the shop named has passed, or it takes longer than nine of ten have taken."""
    expected: Expected | None
    """None where too little is known, where the shop has named a day itself, and once it is late."""
    batch: BatchProgress | None
    carrier_url: str | None = None
    """Where the carrier tells of the parcel."""
    version: str = ""
    """Changes when anything told here changes: the id of a server-sent event, and the ETag."""


def give_version(order: TrackedOrder, order_id: UUID) -> None:
    """Give an order its version: a digest of all that is told of it, the same for whoever asks.

    With a key that is told to nobody, so that who asks by link cannot try out what is not told to them.
    """
    digest = blake2b(_encoder.encode(order), digest_size=VERSION_BYTES, key=order_id.bytes)
    order.version = digest.hexdigest()


def leave_people_out(order: TrackedOrder) -> None:
    """Take away what would tell who bought, or for how much: a link may be passed on."""
    order.total_with_tax = None
    for item in order.items:
        item.print_name = item.print_number = None


_encoder = msgspec.json.Encoder()
