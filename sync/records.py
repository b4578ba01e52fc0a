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

Entity = Literal["customer", "order"]
AddressType = Literal["shipping", "billing", "both"]
Json = dict[str, Any]


class Address(msgspec.Struct, frozen=True, kw_only=True):
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


class Customer(msgspec.Struct, frozen=True, kw_only=True):
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


class Item(msgspec.Struct, frozen=True, kw_only=True):
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


class StageChange(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of an order's delivery history. The first one has no from_stage."""

    source_id: str
    from_stage: DeliveryStage | None
    stage: DeliveryStage
    tracking_number: str | None
    changed_at: datetime


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine and the mirror agree on about an order's delivery."""

    stage: DeliveryStage
    tracking_number: str | None


class Order(msgspec.Struct, frozen=True, kw_only=True):
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


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """The engine no longer has this entity."""

    entity: Entity
    source_id: str
    source_version: datetime


Record = Customer | Order | Deletion
