"""Stripe's objects → records. Pure: the same object gives the same record, whoever brings it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypedDict, TypeVar, cast, get_args

import msgspec

from sync.engines.stripe import order
from sync.engines.stripe.amounts import amount
from sync.engines.stripe.documents import (
    ChargeDocument,
    Expandable,
    InvoiceDocument,
    Metadata,
    PaymentIntentDocument,
    PriceDocument,
    ProductDocument,
    RefundDocument,
    SubscriptionDocument,
    SubscriptionItem,
    Tax,
    TaxRate,
)
from sync.errors import Reject, Skip
from sync.records import (
    Invoice,
    InvoiceStatus,
    Payment,
    PaymentStatus,
    Plan,
    PlanInterval,
    ProviderRecord,
    Refund,
    RefundStatus,
    Subscription,
    SubscriptionStatus,
    TaxShare,
)

MAPPING_VERSION = 1
"""Raise it when an object becomes another record than before: reconcile then reads everything anew."""

UNHASHED: dict[type[ProviderRecord], set[str]] = {
    Payment: {"method", "paid_at"},  # a hook tells the charge's id only, a list the charge itself
    Invoice: {"payment_source_id", "pdf_url", "hosted_url"},  # likewise; and addresses are others each time
}
"""What an object in a hook and the same in a list differ in, and what is therefore no difference."""

ORDER_CODE = ("orderCode", "order_code")
ORDER_ID = ("orderId", "order_id")
CUSTOMER_ID = ("customerId", "customer_id")
"""Keys of metadata, as Vendure's Stripe plugin writes them, or in Stripe's own style."""

PAYMENT_STATUS: dict[str, PaymentStatus] = {
    "requires_payment_method": "pending",
    "requires_confirmation": "pending",
    "requires_action": "pending",
    "processing": "pending",
    "requires_capture": "authorized",
    "canceled": "cancelled",
    "succeeded": "paid",
}
REFUND_STATUS: dict[str, RefundStatus] = {
    "pending": "pending",
    "requires_action": "pending",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "cancelled",
}

R = TypeVar("R", bound=ProviderRecord)


def payment_of_intent(document: PaymentIntentDocument, at: datetime, settled_at: datetime | None = None) -> Payment:
    """Return the payment that a payment intent is; `settled_at` is when it succeeded, where the event says so."""
    place = order.payment_intent_place(document)
    charge = _latest_charge(document)
    error = document.last_payment_error
    status = PAYMENT_STATUS[document.status]
    if error and document.status == "requires_payment_method":
        status = "failed"
    is_paid = status == "paid"
    used = charge.payment_method_details if charge else None
    methods = document.payment_method_types
    made_at = time(charge.created) if charge else None
    return _finished(
        Payment(
            source_id=document.id,
            source_version=at,
            **_told(document.metadata),
            stripe_customer_id=id_of(document.customer),
            stripe_charge_id=charge.id if charge else id_of(cast(Expandable, document.latest_charge)),
            method=(used and used.type) or (methods[0] if len(methods) == 1 else None),
            amount=amount(document.amount_received if is_paid else document.amount, document.currency),
            currency=document.currency.upper(),
            status=status,
            source_status=document.status,
            failure_code=error.code if error and not is_paid else None,
            failure_reason=None if is_paid else (error and error.message) or document.cancellation_reason,
            initiated_at=time(document.created),
            paid_at=(made_at or settled_at) if is_paid else None,
        ),
        place,
    )


def payment_of_charge(document: ChargeDocument, at: datetime) -> Payment:
    """Return the payment that a charge without an intent is, as old integrations make them."""
    place = order.charge_place(document)
    status = _charge_status(document)
    used = document.payment_method_details
    return _finished(
        Payment(
            source_id=document.id,
            source_version=at,
            **_told(document.metadata),
            stripe_customer_id=id_of(document.customer),
            stripe_charge_id=document.id,
            method=used.type if used else None,
            amount=amount((document.captured and document.amount_captured) or document.amount, document.currency),
            currency=document.currency.upper(),
            status=status,
            source_status=document.status,
            failure_code=document.failure_code,
            failure_reason=document.failure_message,
            initiated_at=time(document.created),
            paid_at=time(document.created) if status == "paid" else None,
        ),
        place,
    )


def refund_of(document: RefundDocument, at: datetime) -> Refund:
    """Return a refund."""
    status = document.status or "succeeded"
    place = order.place(order.REFUND, status)
    return _finished(
        Refund(
            source_id=document.id,
            source_version=at,
            payment_source_id=id_of(document.payment_intent) or id_of(document.charge),
            amount=amount(document.amount, document.currency),
            currency=document.currency.upper(),
            status=REFUND_STATUS[status],
            source_status=status,
            reason=document.reason,
            failure_reason=document.failure_reason,
            initiated_at=time(document.created),
        ),
        [place],
    )


def plan_of(document: PriceDocument, at: datetime) -> Plan:
    """Return the plan that a recurring price is; raise Skip for one that is paid once."""
    recurring = document.recurring
    if recurring is None:
        raise Skip("a price that is paid once: only those that recur are plans")
    product = document.product if isinstance(document.product, ProductDocument) else None
    units = document.unit_amount if document.unit_amount is not None else document.unit_amount_decimal
    return _finished(
        Plan(
            source_id=document.id,
            source_version=at,
            stripe_product_id=product.id if product else cast(str | None, document.product),
            name=(product and product.name) or document.nickname or document.lookup_key,
            amount=None if units is None else amount(units, document.currency),
            currency=document.currency.upper(),
            billing_interval=cast(PlanInterval, _one_of(PlanInterval, "recurring.interval", recurring.interval)),
            interval_count=recurring.interval_count,
            trial_days=recurring.trial_period_days,
            is_active=document.active,
        ),
        [],
    )


def subscription_of(document: SubscriptionDocument, at: datetime) -> Subscription:
    """Return a subscription. Of one with several items the first says which plan it is."""
    item = document.items.data[0] if document.items.data else SubscriptionItem()
    begin = document.current_period_start if item.current_period_start is None else item.current_period_start
    end = document.current_period_end if item.current_period_end is None else item.current_period_end
    place = order.subscription_place(document, begin or 0)
    return _finished(
        Subscription(
            source_id=document.id,
            source_version=at,
            stripe_customer_id=id_of(document.customer),
            customer_source_id=_first(document.metadata, CUSTOMER_ID),
            plan_source_id=id_of(item.price or item.plan),
            latest_invoice_source_id=id_of(document.latest_invoice),
            status=cast(SubscriptionStatus, document.status),
            quantity=item.quantity,
            currency=document.currency and document.currency.upper(),
            started_at=time_or_none(document.start_date),
            current_period_start=time_or_none(begin),
            current_period_end=time_or_none(end),
            trial_ends_at=time_or_none(document.trial_end),
            cancel_at_period_end=document.cancel_at_period_end,
            cancel_at=time_or_none(document.cancel_at),
            cancelled_at=time_or_none(document.canceled_at),
            ended_at=time_or_none(document.ended_at),
        ),
        place,
    )


def invoice_of(document: InvoiceDocument, at: datetime) -> Invoice:
    """Return an invoice."""
    place = order.invoice_place(document)
    status = document.status or "draft"
    taxes = document.total_taxes if document.total_taxes is not None else document.total_tax_amounts or []
    tax = document.tax if document.total_taxes is None and document.tax is not None else sum(t.amount for t in taxes)
    parent = document.parent and document.parent.subscription_details
    steps = document.status_transitions
    told = _told(document.metadata)
    issued = None if status == "draft" else document.effective_at or steps.finalized_at

    def money(units: int) -> Decimal:
        return amount(units, document.currency)

    return _finished(
        Invoice(
            source_id=document.id,
            source_version=at,
            **told,
            stripe_customer_id=id_of(document.customer),
            payment_source_id=_invoice_payment(document),
            subscription_source_id=(parent and id_of(parent.subscription)) or id_of(document.subscription),
            number=document.number,
            status=cast(InvoiceStatus, status),
            customer_name=document.customer_name,
            customer_email=document.customer_email and document.customer_email.lower(),
            currency=document.currency.upper(),
            sub_total=money(document.subtotal),
            tax=money(tax),
            total=money(document.total),
            amount_paid=money(document.amount_paid),
            amount_due=money(document.amount_due),
            tax_breakdown=[_share(each, document.default_tax_rates or [], money) for each in taxes],
            issued_at=time_or_none(issued),
            due_at=time_or_none(document.due_date),
            paid_at=time_or_none(steps.paid_at),
            voided_at=time_or_none(steps.voided_at),
            pdf_url=document.invoice_pdf,
            hosted_url=document.hosted_invoice_url,
        ),
        place,
    )


def id_of(value: Expandable | msgspec.Struct) -> str | None:
    """Return the id of an object that may be there itself."""
    return value if value is None or isinstance(value, str) else cast(Any, value).id


def time(seconds: int) -> datetime:
    """Return a time of Stripe's, which are Unix time in seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def time_or_none(seconds: int | None) -> datetime | None:
    """Return a time where there is one."""
    return None if seconds is None else time(seconds)


def _finished(record: R, place: list[int]) -> R:
    """Return a record with its order among states of one second, and the digest of its content."""
    content = {
        name: value
        for name, value in msgspec.structs.asdict(record).items()
        if name not in ProviderRecord.__struct_fields__ or name == "source_id"
    }
    hashed = {name: value for name, value in content.items() if name not in UNHASHED.get(type(record), ())}
    return msgspec.structs.replace(
        record,
        source_order=order.source_order(place, content),
        source_hash=f"{MAPPING_VERSION}:{order.digest(hashed)}",
    )


class _Told(TypedDict):
    order_code: str | None
    order_source_id: str | None
    customer_source_id: str | None


def _told(metadata: Metadata | None) -> _Told:
    """Return what the shop has told Stripe of itself."""
    return {
        "order_code": _first(metadata, ORDER_CODE),
        "order_source_id": _first(metadata, ORDER_ID),
        "customer_source_id": _first(metadata, CUSTOMER_ID),
    }


def _first(metadata: Metadata | None, names: Sequence[str]) -> str | None:
    values = (str((metadata or {}).get(name) or "").strip() for name in names)
    return next(filter(None, values), None)


def _latest_charge(document: PaymentIntentDocument) -> ChargeDocument | None:
    """Return the charge of a payment intent, where it is there itself."""
    if isinstance(document.latest_charge, ChargeDocument):
        return document.latest_charge
    return document.charges.data[0] if document.charges and document.charges.data else None


def _charge_status(document: ChargeDocument) -> PaymentStatus:
    if document.status != "succeeded":
        return "failed" if document.status == "failed" else "pending"
    if document.captured:
        return "paid"
    return "cancelled" if document.refunded else "authorized"


def _invoice_payment(document: InvoiceDocument) -> str | None:
    """Return what an invoice was paid with, the latest if there were several; None: it does not say."""
    for each in reversed(document.payments.data if document.payments else []):
        if each.payment and (paid := id_of(each.payment.payment_intent) or id_of(each.payment.charge)):
            return paid
    return id_of(document.payment_intent)


def _share(tax: Tax, rates: list[TaxRate], money: Callable[[int], Decimal]) -> TaxShare:
    """Return what an invoice holds of one tax. Its rate is named only where the invoice has the rate itself."""
    found = tax.tax_rate_details.tax_rate if tax.tax_rate_details else tax.tax_rate
    known = found if isinstance(found, TaxRate) else next((rate for rate in rates if rate.id == found), None)
    return TaxShare(
        name=known.display_name if known else None,
        rate=f"{known.percentage.normalize():f}" if known and known.percentage is not None else None,
        taxable_amount=None if tax.taxable_amount is None else str(money(tax.taxable_amount)),
        tax=str(money(tax.amount)),
    )


def _one_of(kind: Any, where: str, value: str) -> str:
    if value not in get_args(kind):
        raise Reject(f"{where}: {value!r} is not one of {', '.join(get_args(kind))}")
    return value
