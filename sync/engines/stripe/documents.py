"""Stripe's objects, of any API version that is still about: what we read of them, typed.

Where a version has moved a field both places are here, the present one first. What is not listed is ignored; what is
null or absent is None.
"""

# ruff: noqa: D101 - the classes are Stripe's, documented at https://docs.stripe.com/api

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Seconds = Annotated[int, Meta(ge=0, le=253_402_300_799)]
"""Unix time, up to the last second that has a date."""

Instant = Annotated[datetime, Meta(tz=True)]
Amount = Annotated[int, Meta(ge=-(10**18), le=10**18)]
Metadata = dict[str, Any]


class _Object(msgspec.Struct):
    """Fields have the names that they have over there."""


class Reference(_Object, kw_only=True):
    id: str


Expandable = str | Reference | None
"""An object's id, or where it was asked for the object itself."""


class MethodUsed(_Object, kw_only=True):
    type: str | None = None


class ChargeDocument(_Object, kw_only=True):
    id: str
    amount: Amount
    amount_captured: Amount = 0
    amount_refunded: Amount = 0
    captured: bool = True
    created: Seconds
    currency: str
    customer: Expandable = None
    failure_code: str | None = None
    failure_message: str | None = None
    metadata: Metadata | None = None
    payment_intent: Expandable = None
    payment_method_details: MethodUsed | None = None
    refunded: bool = False
    refunds: "RefundList | None" = None
    status: str


class ChargeList(_Object, kw_only=True):
    data: list[ChargeDocument] = []


class PaymentError(_Object, kw_only=True):
    code: str | None = None
    decline_code: str | None = None
    message: str | None = None
    payment_method: MethodUsed | None = None


class PaymentIntentDocument(_Object, kw_only=True):
    id: str
    amount: Amount
    amount_capturable: Amount = 0
    amount_received: Amount = 0
    cancellation_reason: str | None = None
    charges: ChargeList | None = None  # until 2022-08-01
    created: Seconds
    currency: str
    customer: Expandable = None
    last_payment_error: PaymentError | None = None
    latest_charge: str | ChargeDocument | None = None
    metadata: Metadata | None = None
    payment_method_types: list[str] = []
    status: str


class RefundDocument(_Object, kw_only=True):
    id: str
    amount: Amount
    charge: Expandable = None
    created: Seconds
    currency: str
    failure_reason: str | None = None
    payment_intent: Expandable = None
    reason: str | None = None
    status: str | None = None


class RefundList(_Object, kw_only=True):
    data: list[RefundDocument] = []


class Recurring(_Object, kw_only=True):
    interval: str
    interval_count: int = 1
    trial_period_days: int | None = None


class ProductDocument(_Object, kw_only=True):
    id: str
    name: str | None = None


class PriceDocument(_Object, kw_only=True):
    id: str
    active: bool = False
    currency: str
    lookup_key: str | None = None
    nickname: str | None = None
    product: str | ProductDocument | None = None
    recurring: Recurring | None = None
    unit_amount: Amount | None = None
    unit_amount_decimal: Decimal | None = None


class SubscriptionItem(_Object, kw_only=True):
    current_period_end: Seconds | None = None
    current_period_start: Seconds | None = None
    plan: Reference | None = None  # until 2020-08-27 in place of the price
    price: Reference | None = None
    quantity: int | None = None


class SubscriptionItemList(_Object, kw_only=True):
    data: list[SubscriptionItem] = []


class SubscriptionDocument(_Object, kw_only=True):
    id: str
    cancel_at: Seconds | None = None
    cancel_at_period_end: bool = False
    canceled_at: Seconds | None = None
    created: Seconds
    currency: str | None = None
    current_period_end: Seconds | None = None  # until 2025-02-24: now its items have it
    current_period_start: Seconds | None = None
    customer: Expandable = None
    ended_at: Seconds | None = None
    items: SubscriptionItemList = msgspec.field(default_factory=SubscriptionItemList)
    latest_invoice: Expandable = None
    metadata: Metadata | None = None
    start_date: Seconds | None = None
    status: str
    trial_end: Seconds | None = None


class TaxRate(_Object, kw_only=True):
    id: str
    display_name: str | None = None
    percentage: Decimal | None = None


class TaxRateDetails(_Object, kw_only=True):
    tax_rate: str | TaxRate | None = None


class Tax(_Object, kw_only=True):
    amount: Amount
    tax_rate: str | TaxRate | None = None  # until 2025-02-24
    tax_rate_details: TaxRateDetails | None = None
    taxable_amount: Amount | None = None


class InvoicePaid(_Object, kw_only=True):
    payment_intent: Expandable = None
    charge: Expandable = None


class InvoicePaymentDocument(_Object, kw_only=True):
    invoice: str | Reference
    payment: InvoicePaid | None = None


class InvoicePaymentList(_Object, kw_only=True):
    data: list[InvoicePaymentDocument] = []


class SubscriptionDetails(_Object, kw_only=True):
    subscription: Expandable = None


class InvoiceParent(_Object, kw_only=True):
    subscription_details: SubscriptionDetails | None = None


class StatusTransitions(_Object, kw_only=True):
    finalized_at: Seconds | None = None
    paid_at: Seconds | None = None
    voided_at: Seconds | None = None


class InvoiceDocument(_Object, kw_only=True):
    id: str
    amount_due: Amount
    amount_paid: Amount
    attempt_count: int = 0
    created: Seconds
    currency: str
    customer: Expandable = None
    customer_email: str | None = None
    customer_name: str | None = None
    default_tax_rates: list[TaxRate] | None = None
    due_date: Seconds | None = None
    effective_at: Seconds | None = None
    hosted_invoice_url: str | None = None
    invoice_pdf: str | None = None
    metadata: Metadata | None = None
    number: str | None = None
    parent: InvoiceParent | None = None
    payment_intent: Expandable = None  # until 2025-02-24: now its payments have it
    payments: InvoicePaymentList | None = None
    status: str | None = None
    status_transitions: StatusTransitions = msgspec.field(default_factory=StatusTransitions)
    subscription: Expandable = None  # until 2025-02-24: now its parent has it
    subtotal: Amount
    tax: Amount | None = None  # until 2025-02-24
    total: Amount
    total_tax_amounts: list[Tax] | None = None  # until 2025-02-24
    total_taxes: list[Tax] | None = None
