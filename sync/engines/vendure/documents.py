"""Vendure's documents, as the Admin API and the plugin write them: what we read of them, typed.

The fields are those of `docs/vendure-hooks.md`. What is not listed here is ignored; what is null or absent is None.
"""

# ruff: noqa: D101 - the classes are Vendure's, documented there

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Timestamp = Annotated[datetime, Meta(tz=True)]
CustomFields = dict[str, Any]


class _Document(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """Names are camelCase over there."""


class Reference(_Document):
    id: str


class Country(_Document):
    code: str | None = None
    name: str | None = None


class AddressBookEntry(_Document):
    id: str
    full_name: str | None = None
    company: str | None = None
    street_line1: str | None = None
    street_line2: str | None = None
    city: str | None = None
    province: str | None = None
    postal_code: str | None = None
    country: Country | None = None
    phone_number: str | None = None
    default_shipping_address: bool | None = None
    default_billing_address: bool | None = None
    custom_fields: CustomFields | None = None


class User(_Document):
    verified: bool = False


class Group(_Document):
    name: str


class CustomerDocument(_Document):
    id: str
    created_at: Timestamp
    title: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email_address: str | None = None
    phone_number: str | None = None
    user: User | None = None
    addresses: list[AddressBookEntry] | None = None
    groups: list[Group] | None = None
    custom_fields: CustomFields | None = None


class OrderAddress(_Document):
    full_name: str | None = None
    company: str | None = None
    street_line1: str | None = None
    street_line2: str | None = None
    city: str | None = None
    province: str | None = None
    postal_code: str | None = None
    country: str | None = None
    country_code: str | None = None
    phone_number: str | None = None


class ShippingMethod(_Document):
    name: str | None = None


class ShippingLine(_Document):
    shipping_method: ShippingMethod | None = None


class Discount(_Document):
    amount_with_tax: int


class Product(_Document):
    name: str | None = None


class ProductVariant(_Document):
    name: str
    sku: str | None = None
    product: Product | None = None


class OrderLine(_Document):
    id: str
    quantity: int
    unit_price_with_tax: int
    prorated_line_price_with_tax: int
    product_variant: ProductVariant
    custom_fields: CustomFields | None = None


class Refund(_Document):
    state: str
    total: int
    id: str | None = None
    reason: str | None = None
    transaction_id: str | None = None
    created_at: Timestamp | None = None


class Payment(_Document):
    id: str
    method: str
    amount: int
    state: str
    created_at: Timestamp
    transaction_id: str | None = None
    error_message: str | None = None
    refunds: list[Refund] | None = None


class FulfillmentLine(_Document):
    order_line_id: str
    quantity: int


class Fulfillment(_Document):
    id: str
    state: str
    created_at: Timestamp
    method: str | None = None
    tracking_code: str | None = None
    lines: list[FulfillmentLine] | None = None


class Transition(_Document):
    to: str
    from_: str | None = msgspec.field(name="from", default=None)


class HistoryEntry(_Document):
    id: str
    type: str
    created_at: Timestamp
    data: Any = None


class History(_Document):
    items: list[HistoryEntry]


class DeliveryStageChange(_Document):
    id: str
    changed_at: Timestamp
    stage: str | None = None
    tracking_number: str | None = None


class OrderDocument(_Document):
    id: str
    code: str
    state: str
    updated_at: Timestamp
    currency_code: str
    sub_total: int
    shipping: int
    total: int
    total_with_tax: int
    type: str | None = None
    order_placed_at: Timestamp | None = None
    coupon_codes: list[str] | None = None
    discounts: list[Discount] | None = None
    customer: Reference | None = None
    shipping_address: OrderAddress | None = None
    billing_address: OrderAddress | None = None
    shipping_lines: list[ShippingLine] | None = None
    lines: list[OrderLine] | None = None
    payments: list[Payment] | None = None
    fulfillments: list[Fulfillment] | None = None
    aggregate_order: Reference | None = None
    history: History | None = None
    custom_fields: CustomFields | None = None
    delivery_stage_changes: list[DeliveryStageChange] | None = None
