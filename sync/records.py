"""Canonical records: what an engine's payload says, in our words.

A record is the whole state of one entity at one moment: a customer with every address, an order with every line
and its delivery history. `source_version` is that moment, by the engine's clock, when the state was read; of two
records of one entity the later one counts. Amounts are exact, in major units. Phones are digits with country code.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args

import msgspec

DeliveryStage = Literal["ORDER_CONFIRMED", "SOURCING", "ARRIVED", "DISPATCHED", "DELIVERED"]
DELIVERY_STAGES: tuple[DeliveryStage, ...] = get_args(DeliveryStage)
"""In the order in which they happen."""

Entity = Literal["customer", "order", "payment", "refund", "plan", "subscription", "invoice"]
ENTITIES: tuple[Entity, ...] = get_args(Entity)
"""All that engines may have; `sync.engines.base.Engine.entities` says which of them one has."""
PaymentStatus = Literal["pending", "authorized", "paid", "failed", "cancelled"]
RefundStatus = Literal["pending", "succeeded", "failed", "cancelled"]
PlanInterval = Literal["day", "week", "month", "year"]
SubscriptionStatus = Literal[
    "incomplete", "incomplete_expired", "trialing", "active", "past_due", "canceled", "unpaid", "paused"
]
InvoiceStatus = Literal["draft", "open", "paid", "uncollectible", "void"]
AddressType = Literal["shipping", "billing", "both"]
Json = dict[str, Any]

PROVIDER_PAYMENTS = ("pi_", "ch_")
"""How the ids of payments at a payment provider begin: by these the shop's payments and the provider's meet."""


class Address(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of a customer's address book."""

    source_id: str
    address_type: AddressType
    is_default: bool
    full_name: str | None = None
    company: str | None = None
    street_line_1: str | None = None
    street_line_2: str | None = None
    city: str | None = None
    province: str | None = None
    postal_code: str | None = None
    country_code: str | None = None
    country_name: str | None = None
    phone_number: str | None = None
    phone_as_entered: str | None = None
    custom_fields: Json = {}


class Customer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A customer or guest, with the whole address book."""

    source_id: str
    source_version: datetime
    email: str | None
    phone_number: str | None
    phone_as_entered: str | None
    phone_verified: bool
    title: str | None
    first_name: str | None
    last_name: str | None
    has_account: bool
    email_verified: bool
    marketing_consent: bool
    group_names: list[str]
    custom_fields: Json
    registered_at: datetime | None
    source_hash: str | None = None
    """Digest of the engine's document, where the engine tells it."""
    addresses: list[Address]


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line of an order. A cancelled line has quantity 0."""

    source_id: str
    sku: str | None
    product_name: str
    variant_name: str
    quantity: int
    unit_price_with_tax: Decimal
    line_total_with_tax: Decimal
    patch_enabled: bool
    patch_type: str | None
    print_name: str | None
    print_number: str | None
    is_pre_order: bool
    custom_fields: Json


class StageChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of an order's delivery history. The first one has no from_stage."""

    source_id: str
    from_stage: DeliveryStage | None
    stage: DeliveryStage
    tracking_number: str | None
    changed_at: datetime


class OrderRefund(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A refund, as the shop tells of it."""

    source_id: str
    amount: Decimal
    status: RefundStatus
    source_status: str
    """The shop's own word."""
    reason: str | None
    transaction_id: str | None
    """What the shop calls it at the payment provider: the refund's id there, or only the payment's."""
    initiated_at: datetime


class OrderPayment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A payment, as the shop tells of it."""

    source_id: str
    """Unique within its order."""
    method: str | None
    amount: Decimal
    status: PaymentStatus
    source_status: str
    """The shop's own word."""
    transaction_id: str | None
    """The payment's id at the payment provider (Stripe's payment intent), by which the two sources meet."""
    failure_reason: str | None
    initiated_at: datetime
    refunds: list[OrderRefund]


class FulfilledLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many of an order's line are in a fulfilment."""

    source_id: str
    quantity: int


class Fulfillment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the shop has packed, and sent how."""

    source_id: str
    state: str
    method: str | None
    tracking_number: str | None
    lines: list[FulfilledLine]
    fulfilled_at: datetime


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of an order's own history of states."""

    source_id: str
    from_state: str | None
    to_state: str
    changed_at: datetime


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the engine and the mirror agree on about an order's delivery."""

    stage: DeliveryStage
    tracking_number: str | None


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A placed order, with all its lines and its delivery history."""

    source_id: str
    source_version: datetime
    customer_source_id: str | None
    order_code: str
    order_state: str
    order_date: datetime
    delivery_stage: DeliveryStage
    tracking_number: str | None
    carrier: str | None
    payment_method: str | None
    currency: str
    sub_total: Decimal
    shipping: Decimal
    tax: Decimal
    discount: Decimal
    total: Decimal
    total_with_tax: Decimal
    total_paid: Decimal
    total_refunded: Decimal
    coupon_codes: list[str]
    shipping_method: str | None
    shipping_address: Json | None
    billing_address: Json | None
    contact_name: str | None
    contact_phone: str | None
    contact_email: str | None
    custom_fields: Json
    cancelled_at: datetime | None
    source_hash: str | None = None
    """Digest of the engine's document, where the engine tells it."""
    items: list[Item]
    stages: list[StageChange]
    payments: list[OrderPayment] = []
    fulfillments: list[Fulfillment] = []
    events: list[OrderEvent] = []
    """Its own history of states; none from an engine that does not tell."""


class ProviderRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of an object at a payment provider (Stripe)."""

    source_id: str
    source_version: datetime
    """When the state was true, by the provider's clock."""
    source_order: str = ""
    """Of states of one moment, which is the newer: compared byte by byte."""
    source_hash: str | None = None


class Payment(ProviderRecord, frozen=True, kw_only=True):
    """A payment, as the provider tells of it: its id is that of the payment intent."""

    order_code: str | None
    """Which order it is for, as the provider was told: it may not be here yet. Likewise order_source_id."""
    order_source_id: str | None
    stripe_customer_id: str | None
    customer_source_id: str | None
    """The shop's id of the customer, where the provider was told it."""
    stripe_charge_id: str | None
    method: str | None
    amount: Decimal
    currency: str
    status: PaymentStatus
    source_status: str
    failure_code: str | None
    failure_reason: str | None
    initiated_at: datetime
    paid_at: datetime | None


class Refund(ProviderRecord, frozen=True, kw_only=True):
    """A refund, as the provider tells of it."""

    payment_source_id: str | None
    """The provider's id of the payment, which may not be here yet."""
    amount: Decimal
    currency: str
    status: RefundStatus
    source_status: str
    reason: str | None
    failure_reason: str | None
    initiated_at: datetime


class Plan(ProviderRecord, frozen=True, kw_only=True):
    """A recurring price that customers can subscribe to."""

    stripe_product_id: str | None
    name: str | None
    amount: Decimal | None
    """For each interval; None where the price is not one amount."""
    currency: str
    billing_interval: PlanInterval
    interval_count: int
    trial_days: int | None
    is_active: bool


class Subscription(ProviderRecord, frozen=True, kw_only=True):
    """A customer's subscription. Other objects are named by their ids and may not be here yet."""

    stripe_customer_id: str | None
    customer_source_id: str | None
    plan_source_id: str | None
    latest_invoice_source_id: str | None
    status: SubscriptionStatus
    quantity: int | None
    currency: str | None
    started_at: datetime | None
    current_period_start: datetime | None
    current_period_end: datetime | None
    trial_ends_at: datetime | None
    cancel_at_period_end: bool
    cancel_at: datetime | None
    cancelled_at: datetime | None
    ended_at: datetime | None


class TaxShare(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an invoice holds of one tax; amounts are decimals as text."""

    name: str | None
    rate: str | None
    """In percent."""
    taxable_amount: str | None
    tax: str


class Invoice(ProviderRecord, frozen=True, kw_only=True):
    """An invoice. Other objects are named by their ids and may not be here yet."""

    stripe_customer_id: str | None
    customer_source_id: str | None
    order_code: str | None
    order_source_id: str | None
    payment_source_id: str | None
    subscription_source_id: str | None
    number: str | None
    status: InvoiceStatus
    customer_name: str | None
    customer_email: str | None
    currency: str
    sub_total: Decimal
    tax: Decimal
    total: Decimal
    amount_paid: Decimal
    amount_due: Decimal
    tax_breakdown: list[TaxShare]
    issued_at: datetime | None
    due_at: datetime | None
    paid_at: datetime | None
    voided_at: datetime | None
    pdf_url: str | None
    hosted_url: str | None


class Deletion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The engine no longer has this entity."""

    entity: Entity
    source_id: str
    source_version: datetime


Record = Customer | Order | Payment | Refund | Plan | Subscription | Invoice | Deletion
