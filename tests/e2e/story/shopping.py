"""What a shopper does between the first click and the payment, as steps that the actions are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.e2e.graphql import Session
from tests.e2e.people import Person
from tests.e2e.world import World

CARD = "card"
CASH = "cash-on-delivery"
COURIER = "courier"
PICKUP = "pickup"


def fill_cart(world: World, visitor: Session, lines: Mapping[str, int]) -> str:
    """Put so many of each SKU into the cart; return the order's id."""
    order: dict[str, Any] = {}
    for sku, quantity in lines.items():
        order = visitor.do(
            "addItemToOrder(productVariantId: ID!, quantity: Int!)",
            on="Order",
            productVariantId=world.variants[sku],
            quantity=quantity,
        )
    return str(order["id"])


def cart_line(visitor: Session, sku: str) -> str:
    lines = visitor.query("{ activeOrder { lines { id productVariant { sku } } } }")["lines"]
    return str(next(line["id"] for line in lines if line["productVariant"]["sku"] == sku))


def introduce(visitor: Session, person: Person) -> None:
    """Say who the guest is."""
    visitor.do("setCustomerForOrder(input: CreateCustomerInput!)", on="Order", input=person.as_customer())


def address(visitor: Session, person: Person, **more: str) -> None:
    visitor.do("setOrderShippingAddress(input: CreateAddressInput!)", on="Order", input=person.address(**more))


def choose_shipping(visitor: Session, code: str = COURIER) -> None:
    methods = visitor.query("{ eligibleShippingMethods { id code } }")
    chosen = next(method["id"] for method in methods if method["code"] == code)
    visitor.do("setOrderShippingMethod(shippingMethodId: [ID!]!)", on="Order", shippingMethodId=[chosen])


def go_to_payment(visitor: Session) -> None:
    transition(visitor, "ArrangingPayment")


def transition(visitor: Session, state: str) -> None:
    visitor.do("transitionOrderToState(state: String!)", on="Order", state=state)


def pay(visitor: Session, outcome: str = "settle", method: str = CARD) -> None:
    visitor.do("addPaymentToOrder(input: PaymentInput!)", on="Order", input=_payment(method, outcome))


def pay_in_vain(visitor: Session, outcome: str) -> None:
    """Pay with a card that is declined or fails."""
    visitor.refused("addPaymentToOrder(input: PaymentInput!)", on="Order", input=_payment(CARD, outcome))


def _payment(method: str, outcome: str) -> dict[str, Any]:
    return {"method": method, "metadata": {"outcome": outcome}}


def guest_order(
    world: World,
    name: str,
    person: Person,
    lines: Mapping[str, int],
    *,
    visitor: Session | None = None,
    shipping: str = COURIER,
    method: str = CARD,
    outcome: str = "settle",
) -> None:
    """A whole checkout without an account, remembered as the order `name`."""
    visitor = visitor or world.visitor()
    world.orders[name] = fill_cart(world, visitor, lines)
    introduce(visitor, person)
    _check_out(visitor, person, shipping, method, outcome)


def account_order(
    world: World,
    name: str,
    person: Person,
    lines: Mapping[str, int],
    *,
    visitor: Session,
    shipping: str = COURIER,
    method: str = CARD,
    outcome: str = "settle",
) -> None:
    """A whole checkout by a visitor who is logged in."""
    world.orders[name] = fill_cart(world, visitor, lines)
    _check_out(visitor, person, shipping, method, outcome)


def _check_out(visitor: Session, person: Person, shipping: str, method: str, outcome: str) -> None:
    address(visitor, person)
    choose_shipping(visitor, shipping)
    go_to_payment(visitor)
    pay(visitor, outcome, method)
