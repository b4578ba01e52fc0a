"""Vendure's documents become records, rule by rule; what is not for us is skipped, what is not right is rejected."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from sync.engines.base import Context
from sync.engines.vendure.mapping import map_event
from sync.errors import Reject, Skip
from sync.phones import phone_digits
from sync.records import Customer, Deletion, Order, Record
from tests.factory import (
    START,
    Document,
    address,
    customer_changed,
    customer_deleted,
    event,
    fulfillment,
    line,
    order_changed,
    order_deleted,
    payload,
    payment,
    stage_change,
)

LK = Context(phone_region="LK")


def mapped(described: Document, context: Context = LK) -> Record:
    (record,) = map_event(described["type"], payload(described), context)
    return record


def customer(**fields: Any) -> Customer:
    record = mapped(customer_changed("1", 1, **fields))
    assert isinstance(record, Customer)
    return record


def order(context: Context = LK, **fields: Any) -> Order:
    record = mapped(order_changed("7", 1, **fields), context)
    assert isinstance(record, Order)
    return record


def reason(error: type[Skip | Reject], described: Document) -> str:
    with pytest.raises(error) as caught:
        mapped(described)
    return caught.value.reason


def test_a_record_has_the_engines_id_and_the_time_of_reading_as_its_version() -> None:
    assert (customer().source_id, customer().source_version) == ("1", START + timedelta(seconds=1))
    assert (order().source_id, order().source_version) == ("7", START + timedelta(seconds=1))


def test_a_deletion_is_a_record_of_its_own() -> None:
    version = START + timedelta(seconds=2)
    assert mapped(customer_deleted("1", 2)) == Deletion(entity="customer", source_id="1", source_version=version)
    assert mapped(order_deleted("7", 2)) == Deletion(entity="order", source_id="7", source_version=version)


def test_a_guest_has_no_account() -> None:
    guest, shopper = customer(user=None), customer(user={"id": "2", "identifier": "x", "verified": True})
    assert (guest.has_account, guest.email_verified) == (False, False)
    assert (shopper.has_account, shopper.email_verified) == (True, True)


def test_blank_and_null_are_the_same() -> None:
    blank = customer(title=" ", firstName="", lastName=None, emailAddress="", phoneNumber="  ")
    assert {blank.title, blank.first_name, blank.last_name, blank.email, blank.phone_as_entered} == {None}


def test_an_e_mail_address_is_lower_case() -> None:
    assert customer(emailAddress=" Nimal.Perera@Example.COM ").email == "nimal.perera@example.com"


@pytest.mark.parametrize(
    ("entered", "digits"),
    [
        ("077 123 4567", "94771234567"),
        ("+94 (77) 123-4567", "94771234567"),
        ("0094771234567", "94771234567"),
        ("+965 5123 4577", "96551234577"),
        ("call me", None),
        ("12", None),
        ("+62 222 222 222 222 222", None),
        ("+4922", None),
        ("", None),
        (None, None),
    ],
)
def test_a_phone_number_is_digits_with_country_code(entered: str | None, digits: str | None) -> None:
    found = customer(phoneNumber=entered)
    assert (found.phone_number, found.phone_as_entered) == (digits, entered or None)


@pytest.mark.parametrize("length", range(1, 18))
@pytest.mark.parametrize("country", ["1", "49", "62", "81", "94", "598", "234", "43", "82"])
def test_a_phone_number_always_fits_its_column(country: str, length: int) -> None:
    digits = phone_digits(f"+{country}{'2' * length}", "LK")
    assert digits is None or 6 <= len(digits) <= 15


def test_custom_fields_have_columns_where_we_know_them_and_are_kept_otherwise() -> None:
    found = customer(customFields={"phoneVerified": True, "marketingConsent": "yes", "club": {"id": 3}})
    assert (found.phone_verified, found.marketing_consent) == (True, False)
    assert found.custom_fields == {"club": {"id": 3}}


def test_groups_are_sorted() -> None:
    assert customer(groups=[{"id": "2", "name": "VIP"}, {"id": "1", "name": "Club"}]).group_names == ["Club", "VIP"]


@pytest.mark.parametrize(
    ("to", "bill_to", "address_type", "is_default"),
    [
        (True, False, "shipping", True),
        (False, True, "billing", True),
        (True, True, "both", True),
        (None, None, "both", False),
    ],
)
def test_an_address_says_what_it_is_the_default_for(
    to: bool | None, bill_to: bool | None, address_type: str, is_default: bool
) -> None:
    (found,) = customer(addresses=[address("5", defaultShippingAddress=to, defaultBillingAddress=bill_to)]).addresses
    assert (found.address_type, found.is_default) == (address_type, is_default)
    assert (found.street_line_1, found.city, found.country_code) == ("4/1 Temple Lane", "Colombo 05", "LK")


@pytest.mark.parametrize(
    ("currency", "minor_units", "amount"),
    [
        ("JPY", 1500, "1500"),
        ("LKR", 150050, "1500.50"),
        ("KWD", 1575143, "1575.143"),
        ("CLF", 12345, "1.2345"),
        ("LKR", 0, "0"),
        ("LKR", -1, "-0.01"),
        ("JPY", 10**40 + 1, "10000000000000000000000000000000000000001"),
        ("KWD", 10**40 + 1, "10000000000000000000000000000000000000.001"),
    ],
)
def test_money_is_exact(currency: str, minor_units: int, amount: str) -> None:
    found = order(currencyCode=currency, totalWithTax=minor_units, total=0, shipping=minor_units)
    assert {found.total_with_tax, found.tax, found.shipping} == {Decimal(amount)}
    assert found.currency == currency


def test_a_shop_may_count_in_other_units_than_its_currency() -> None:
    assert order(Context(phone_region="LK", money_precision=4), totalWithTax=123456).total_with_tax == Decimal(
        "12.3456"
    )
    assert order(Context(phone_region="LK", money_precision=0), totalWithTax=12).total_with_tax == 12


def test_a_discount_is_what_was_taken_off() -> None:
    assert order(discounts=[{"amountWithTax": -500}, {"amountWithTax": -250}]).discount == Decimal("7.50")
    assert order(discounts=[{"amountWithTax": 500}]).discount == 0
    assert order().discount == 0


def test_settled_payments_and_refunds_count() -> None:
    refunds = [{"state": "Settled", "total": 300}, {"state": "Pending", "total": 200}]
    payments = [
        payment("1", amount=900, refunds=refunds),
        payment("2", amount=100, state="Authorized", method="transfer"),
        payment("3", amount=50, state="Declined", method="voucher"),
    ]
    found = order(payments=payments)
    assert (found.total_paid, found.total_refunded, found.payment_method) == (Decimal(9), Decimal(3), "transfer")


def test_the_method_of_a_declined_payment_is_better_than_none() -> None:
    assert order(payments=[payment("1", state="Declined")]).payment_method == "card"
    assert order(payments=[]).payment_method is None


def test_a_cancelled_order_is_dated_by_its_last_change() -> None:
    assert order(state="Cancelled").cancelled_at == START - timedelta(seconds=90)
    assert order(state="Shipped").cancelled_at is None


def test_a_contact_is_taken_from_the_delivery_address_or_else_from_the_bill() -> None:
    bill = {"fullName": "Kumari Silva", "phoneNumber": "0771234568"}
    assert order(shippingAddress={"phoneNumber": "none"}, billingAddress=bill).contact_phone == "94771234568"
    found = order(shippingAddress={"fullName": "Nimal", "phoneNumber": "0771234567"}, billingAddress=bill)
    assert (found.contact_phone, found.contact_name, found.contact_email) == ("94771234567", "Nimal", None)


def test_an_address_in_which_nothing_was_entered_is_none() -> None:
    assert order(billingAddress={"fullName": None, "city": ""}).billing_address is None
    assert order(shippingAddress={"streetLine1": "4/1", "countryCode": "LK"}).shipping_address == {
        "street_line_1": "4/1",
        "country_code": "LK",
    }


def test_a_line_has_its_print_and_patch() -> None:
    fields = {"patchEnabled": True, "patchType": "EPL", "printName": "PERERA", "printNumber": 10, "preOrder": True}
    (found,) = order(lines=[line("3", quantity=0, customFields={**fields, "gift": "yes"})]).items
    assert (found.patch_enabled, found.patch_type, found.is_pre_order) == (True, "EPL", True)
    assert (found.print_name, found.print_number, found.custom_fields) == ("PERERA", "10", {"gift": "yes"})
    assert (found.quantity, found.product_name, found.variant_name) == (0, "Home Kit", "Home Kit M")


def test_a_line_without_a_product_is_named_by_its_variant() -> None:
    (found,) = order(lines=[line("3", productVariant={"name": "Kit M"})]).items
    assert (found.product_name, found.sku) == ("Kit M", None)


def test_a_tracking_number_is_the_shops_own_or_that_of_the_shipment_that_stands() -> None:
    shipments = [
        fulfillment("1", trackingCode="A"),
        fulfillment("2", trackingCode="B", method="Pigeon", state="Cancelled"),
    ]
    assert (order(fulfillments=shipments).tracking_number, order(fulfillments=shipments).carrier) == ("A", "Courier")
    assert order(fulfillments=shipments, customFields={"trackingNumber": "T"}).tracking_number == "T"


def test_payments_and_shipments_count_as_they_came_whatever_the_order_of_the_document() -> None:
    payments = [payment("1", id="b"), payment("2", id="a", method="transfer")]
    for listed in (payments, payments[::-1]):
        assert order(payments=listed).payment_method == "transfer"


def test_history_begins_with_the_placing_and_follows_each_change() -> None:
    changes = [stage_change("1", "SOURCING", -1000), stage_change("2", "DISPATCHED", 5, trackingNumber="T")]
    found = order(customFields={"deliveryStage": "DISPATCHED"}, deliveryStageChanges=changes)
    steps = [(s.source_id, s.from_stage, s.stage, s.tracking_number) for s in found.stages]
    assert steps == [
        ("placed", None, "ORDER_CONFIRMED", None),
        ("1", "ORDER_CONFIRMED", "SOURCING", None),
        ("2", "SOURCING", "DISPATCHED", "T"),
    ]
    assert [s.changed_at for s in found.stages] == [found.order_date, found.order_date, START + timedelta(seconds=5)]
    assert found.delivery_stage == "DISPATCHED"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_no_stage_is_the_first_stage(value: str | None) -> None:
    assert order(customFields={"deliveryStage": value}).delivery_stage == "ORDER_CONFIRMED"


NOT_OURS: list[tuple[Document, str]] = [
    (event("coupon.changed", "1", 1, {}), "events of the type 'coupon.changed' are not mirrored"),
    (order_changed("7", 1, orderPlacedAt=None), "not placed: a cart or a draft"),
    (order_changed("7", 1, orderPlacedAt=None, state="Draft"), "not placed: a cart or a draft"),
    (order_changed("7", 1, type="Seller"), "a seller's part of an order: the aggregate order has its lines"),
    (
        order_changed("7", 1, aggregateOrder={"id": "6"}),
        "a seller's part of an order: the aggregate order has its lines",
    ),
]


@pytest.mark.parametrize(("described", "why"), NOT_OURS)
def test_what_is_not_for_us_is_skipped(described: Document, why: str) -> None:
    assert reason(Skip, described) == why


def test_the_whole_of_an_order_that_is_split_is_for_us() -> None:
    assert order(type="Aggregate", sellerOrders=[{"id": "8"}]).order_code == "CODE7"


WRONG: list[tuple[Document, str]] = [
    (order_changed("7", 1, totalWithTax="12.50"), "`$.data.totalWithTax`"),
    (order_changed("7", 1, totalWithTax=12.5), "`$.data.totalWithTax`"),
    (order_changed("7", 1, lines=[line("1"), line("2", quantity=None)]), "`$.data.lines[1].quantity`"),
    (order_changed("7", 1, orderPlacedAt="2026-11-20T10:00:00"), "`$.data.orderPlacedAt`"),
    (order_changed("7", 1, currencyCode="EURO"), "currencyCode: 'EURO' is no ISO 4217 currency"),
    (
        order_changed("7", 1, customFields={"deliveryStage": "LOST"}),
        "customFields.deliveryStage: must be one of ORDER_",
    ),
    (order_changed("7", 1, deliveryStageChanges=[stage_change("1", "X", 1)]), "deliveryStageChanges[].stage: must be"),
    (customer_changed("1", 1, emailAddress=["x"]), "`$.data.emailAddress`"),
    (event("customer.changed", "1", 1, None), "Expected `object`, got `null` - at `$.data`"),
    ({**customer_changed("1", 1), "readAt": "soon"}, "`$.readAt`"),
]


@pytest.mark.parametrize(("described", "where"), WRONG, ids=[where for _, where in WRONG])
def test_what_is_wrong_is_rejected_with_its_place(described: Document, where: str) -> None:
    assert where in reason(Reject, described)


def test_what_is_nested_too_deeply_is_rejected() -> None:
    deep = b'{"x":' * 5000 + b"1" + b"}" * 5000
    raw = payload(order_changed("7", 1, customFields="@")).replace(b'"@"', deep)
    with pytest.raises(Reject, match="nested too deeply"):
        map_event("order.changed", raw, LK)


def test_an_amount_of_thousands_of_digits_is_rejected() -> None:
    assert "thousands of digits" in reason(
        Reject, order_changed("7", 1, total=-9 * 10**4298, totalWithTax=95 * 10**4298)
    )
