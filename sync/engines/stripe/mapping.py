"""Stripe's events → records. One mapping, whoever brings the event: hook, backfill or reconcile.

Pure: the same event gives the same records. A snapshot holds its object, and what the object is says how it is read,
in whichever API version it is written. What an event only names is to be fetched: what a thin one is about, and the
few objects of which a snapshot does not say all that we keep. `docs/stripe.md` lists what is done with each kind.

The version of a state is the event's creation; `order.py` tells which of two states of one second is the newer. Where
a life has no such sign (an edited price, a subscription that was changed to another plan and back) the object is read
anew, with the time of that reading, if we can.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from sync.engines.base import Context, Fetch
from sync.engines.stripe.documents import (
    ChargeDocument,
    Instant,
    InvoiceDocument,
    InvoicePaymentDocument,
    PaymentIntentDocument,
    PriceDocument,
    ProductDocument,
    RefundDocument,
    Seconds,
    SubscriptionDocument,
    SubscriptionItemList,
)
from sync.engines.stripe.order import ENDED, as_read
from sync.engines.stripe.records import (
    id_of,
    invoice_of,
    payment_of_charge,
    payment_of_intent,
    plan_of,
    refund_of,
    subscription_of,
    time,
)
from sync.errors import Reject, Skip
from sync.records import Deletion, Entity, ProviderRecord, Record

KINDS: dict[str, Entity] = {
    "payment_intent": "payment",
    "charge": "payment",
    "refund": "refund",
    "price": "plan",
    "product": "plan",
    "subscription": "subscription",
    "invoice": "invoice",
}
"""What Stripe's objects are to us."""

READ = ".read"
"""How the type of that which we have read ourselves ends: it is not an event of Stripe's."""

DELETABLE = {"price", "invoice"}
"""What Stripe deletes; anything else only ends. (A product can be deleted once it has no prices.)"""


class _Head(msgspec.Struct):
    """An object, as far as it says what it is."""

    object: str = ""
    id: str | None = None
    deleted: bool = False


class _Data(msgspec.Struct):
    object: msgspec.Raw
    previous_attributes: dict[str, Any] | None = None


class _Related(msgspec.Struct):
    id: str
    type: str


class _Event(msgspec.Struct):
    """An event of either kind. Where `created` is no number it says the time to the microsecond."""

    object: Literal["event", "v2.core.event"]
    type: str
    created: Seconds | Instant
    livemode: bool
    account: str | None = None
    api_version: str | None = None
    context: str | None = None
    data: _Data | None = None
    related_object: _Related | None = None

    @property
    def at(self) -> datetime:
        """The version of what it states."""
        return self.created if isinstance(self.created, datetime) else time(self.created)

    @property
    def previous(self) -> Mapping[str, Any]:
        """What has changed, as it was before."""
        return (self.data and self.data.previous_attributes) or {}


Reader = Callable[[bytes | msgspec.Raw, _Event], Sequence[Record]]

_events = msgspec.json.Decoder(_Event)
_heads = msgspec.json.Decoder(_Head)


def map_event(event_type: str, payload: bytes, context: Context) -> list[Record]:
    """Return the records in an event; raise Skip, Fetch or Reject."""
    try:
        event = _events.decode(payload)
        _check_mode(event, context)
        return list(_states(event, event.data) if event.data else _named(event))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Reject(f"{event_type} is not as Stripe documents it: {error}") from None
    except RecursionError:
        raise Reject(f"{event_type} is not as Stripe documents it: nested too deeply") from None


def _check_mode(event: _Event, context: Context) -> None:
    """Raise Skip for what happened in another mode or account than the one that is mirrored."""
    if context.is_test is not None and event.livemode == context.is_test:
        mode, mirrored = ("live", "test") if event.livemode else ("test", "live")
        raise Skip(f"of Stripe's {mode} mode, and {mirrored} mode is mirrored: see is_test in mirror.integrations")
    account = event.account or event.context
    if account:
        raise Skip(f"of the connected account {account}: only the account's own events are mirrored")


def _states(event: _Event, data: _Data) -> Sequence[Record]:
    """Return what a snapshot states."""
    raw = data.object
    head = _heads.decode(raw)
    if head.id is None:
        raise Skip("a preview of what does not exist yet")
    if head.deleted or (head.object in DELETABLE and event.type == f"{head.object}.deleted"):
        return [Deletion(entity=_entity(head.object), source_id=head.id, source_version=event.at)]
    reader = READERS.get(head.object)
    if reader is None:
        raise Skip(f"{event.type}: objects of the kind {head.object!r} are not mirrored")
    try:
        records = reader(raw, event)
    except msgspec.ValidationError as error:
        version = f" of API version {event.api_version}" if event.api_version else ""
        raise Reject(f"a {head.object}{version} that is not as Stripe documents it: {error}") from None
    return [_as_read(record) for record in records] if event.type.endswith(READ) else records


def _as_read(record: Record) -> Record:
    if isinstance(record, ProviderRecord):
        return msgspec.structs.replace(record, source_order=as_read(record.source_order))
    return record


def _entity(kind: str) -> Entity:
    if kind not in KINDS:
        raise Skip(f"objects of the kind {kind!r} are not mirrored")
    return KINDS[kind]


def _named(event: _Event) -> Sequence[Record]:
    """Return what is known of that which a thin event names: at the most that it is gone."""
    related = event.related_object
    if related is None or related.type not in KINDS:
        kind = repr(related.type) if related else "no kind"
        raise Skip(f"{event.type}: objects of {kind} are not mirrored")
    if related.type in DELETABLE and event.type == f"v1.{related.type}.deleted":
        return [Deletion(entity=KINDS[related.type], source_id=related.id, source_version=event.at)]
    raise Fetch(KINDS[related.type], related.id, f"{event.type} only names {related.id}", at=event.at)


def _payment_intent(raw: bytes | msgspec.Raw, event: _Event) -> Sequence[Record]:
    settled_at = event.at if event.type == "payment_intent.succeeded" else None
    return [payment_of_intent(PAYMENT_INTENTS.decode(raw), event.at, settled_at)]


def _charge(raw: bytes | msgspec.Raw, event: _Event) -> Sequence[Record]:
    """Return a charge without an intent as a payment; of an intent's only the refunds that old versions hold."""
    charge = CHARGES.decode(raw)
    refunds = [refund_of(refund, event.at) for refund in (charge.refunds.data if charge.refunds else ())]
    intent = id_of(charge.payment_intent)
    if intent is None:
        return [payment_of_charge(charge, event.at), *refunds]
    if not refunds:
        raise Skip(f"the events of {intent}, whose charge this is, tell of it")
    return refunds


def _refund(raw: bytes | msgspec.Raw, event: _Event) -> Sequence[Record]:
    return [refund_of(REFUNDS.decode(raw), event.at)]


def _price(raw: bytes | msgspec.Raw, event: _Event) -> Sequence[Record]:
    """Return a plan. Its name is its product's, which an event does not hold; it is read with the price."""
    price = PRICES.decode(raw)
    plan = plan_of(price, event.at)
    if isinstance(price.product, ProductDocument):
        return [plan]
    raise Fetch("plan", price.id, "a price does not hold its product's name", at=event.at, otherwise=[plan])


def _product(raw: bytes | msgspec.Raw, event: _Event) -> Sequence[Record]:
    """Have the prices of a product read: they bear its name."""
    product = PRODUCTS.decode(raw)
    if event.type == "product.deleted":
        raise Skip("a product without prices, for else it cannot be deleted")
    if event.type == "product.updated" and "name" not in event.previous:
        raise Skip("of a product only its name is mirrored, and that is what it was")
    reason = "the plans of a product bear its name, and the event does not list them"
    raise Fetch("plan", product.id, reason, at=event.at, otherwise=())


def _subscription(raw: bytes | msgspec.Raw, event: _Event) -> Sequence[Record]:
    """Return a subscription; one that was changed in what no place in a life orders is read anew if it can be."""
    document = SUBSCRIPTIONS.decode(raw)
    subscription = subscription_of(document, event.at)
    if event.previous and not _is_ordered(event.previous, document):
        reason = "a change that may be one of several in the same second"
        raise Fetch("subscription", subscription.source_id, reason, at=event.at, otherwise=[subscription])
    return [subscription]


def _is_ordered(previous: Mapping[str, Any], document: SubscriptionDocument) -> bool:
    """Tell whether a subscription has begun, ended, or come into another period: that it does once."""
    if previous.get("status") == "incomplete" or document.status in ENDED or "current_period_start" in previous:
        return True
    try:  # since 2025 its items have the period
        before = msgspec.convert(previous.get("items", {}), SubscriptionItemList).data[0].current_period_start
    except (msgspec.ValidationError, IndexError):
        return False
    return before is not None and before != document.items.data[0].current_period_start


def _invoice(raw: bytes | msgspec.Raw, event: _Event) -> Sequence[Record]:
    return [invoice_of(INVOICES.decode(raw), event.at)]


def _invoice_payment(raw: bytes | msgspec.Raw, event: _Event) -> Sequence[Record]:
    """Have the invoice read: it says what it was paid with only to who asks."""
    invoice = INVOICE_PAYMENTS.decode(raw).invoice
    source_id = invoice if isinstance(invoice, str) else invoice.id
    reason = "an invoice says what it was paid with only to who asks"
    raise Fetch("invoice", source_id, reason, at=event.at, otherwise=())


PAYMENT_INTENTS = msgspec.json.Decoder(PaymentIntentDocument)
CHARGES = msgspec.json.Decoder(ChargeDocument)
REFUNDS = msgspec.json.Decoder(RefundDocument)
PRICES = msgspec.json.Decoder(PriceDocument)
PRODUCTS = msgspec.json.Decoder(ProductDocument)
SUBSCRIPTIONS = msgspec.json.Decoder(SubscriptionDocument)
INVOICES = msgspec.json.Decoder(InvoiceDocument)
INVOICE_PAYMENTS = msgspec.json.Decoder(InvoicePaymentDocument)

READERS: dict[str, Reader] = {
    "payment_intent": _payment_intent,
    "charge": _charge,
    "refund": _refund,
    "price": _price,
    "product": _product,
    "subscription": _subscription,
    "invoice": _invoice,
    "invoice_payment": _invoice_payment,
}
