"""Carts and checkouts, one click an action: Vendure fires no event for several of them."""

from __future__ import annotations

from tests.e2e.catalogue import COUPON, JAPAN
from tests.e2e.people import (
    FAISAL,
    HARUTO,
    ISHARA,
    KUMARI,
    LAKMAL,
    MOHAMED,
    NIMAL,
    NOURA,
    TAMARA,
    YUKI,
)
from tests.e2e.story import shopping
from tests.e2e.story.shopping import CASH, PICKUP, account_order, cart_line, fill_cart, guest_order
from tests.e2e.world import Action, World


def tamara_fills_a_cart(world: World) -> None:
    visitor = world.visitors["tamara"] = world.visitor()
    world.orders["tamara's"] = fill_cart(world, visitor, {"KIT-COL-H-M": 1, "KIT-GAL-R-L": 1, "PROG-1": 3})


def tamara_takes_two_kits(world: World) -> None:
    visitor = world.visitors["tamara"]
    visitor.do(
        "adjustOrderLine(orderLineId: ID!, quantity: Int!)",
        on="Order",
        orderLineId=cart_line(visitor, "KIT-COL-H-M"),
        quantity=2,
    )


def tamara_puts_the_programmes_back(world: World) -> None:
    visitor = world.visitors["tamara"]
    visitor.do("removeOrderLine(orderLineId: ID!)", on="Order", orderLineId=cart_line(visitor, "PROG-1"))


def tamara_uses_a_coupon(world: World) -> None:
    world.visitors["tamara"].do("applyCouponCode(couponCode: String!)", on="Order", couponCode=COUPON)


def tamara_removes_the_coupon(world: World) -> None:
    world.visitors["tamara"].do("removeCouponCode(couponCode: String!)", couponCode=COUPON)


def tamara_says_who_she_is(world: World) -> None:
    shopping.introduce(world.visitors["tamara"], TAMARA)


def tamara_gives_her_addresses(world: World) -> None:
    visitor = world.visitors["tamara"]
    shopping.address(visitor, TAMARA)
    visitor.do(
        "setOrderBillingAddress(input: CreateAddressInput!)",
        on="Order",
        input=TAMARA.address(company="Jayasuriya Stores", streetLine1="90 Galle Road"),
    )


def tamara_chooses_the_courier(world: World) -> None:
    shopping.choose_shipping(world.visitors["tamara"])


def tamara_goes_to_payment_and_back_for_the_coupon(world: World) -> None:
    visitor = world.visitors["tamara"]
    shopping.go_to_payment(visitor)
    shopping.transition(visitor, "AddingItems")
    tamara_uses_a_coupon(world)
    shopping.go_to_payment(visitor)


def tamaras_card_is_declined(world: World) -> None:
    shopping.pay_in_vain(world.visitors["tamara"], "decline")


def tamaras_bank_fails(world: World) -> None:
    shopping.pay_in_vain(world.visitors["tamara"], "error")


def tamara_pays_with_another_card(world: World) -> None:
    shopping.pay(world.visitors["tamara"])


def nimal_orders_with_an_authorized_card(world: World) -> None:
    account_order(world, "nimal's", NIMAL, {"KIT-KAN-H-L": 2}, visitor=world.visitors["nimal"], outcome="authorize")


def nimal_orders_again_cash_on_delivery(world: World) -> None:
    lines = {"KIT-COL-A-S": 1, "KIT-COL-A-XL": 1}
    account_order(world, "nimal's second", NIMAL, lines, visitor=world.visitors["nimal"], method=CASH)


def mohamed_orders_for_pickup(world: World) -> None:
    guest_order(world, "mohamed's", MOHAMED, {"KIT-JAF-G-L": 1, "PROG-1": 2}, shipping=PICKUP)


def someone_leaves_a_cart(world: World) -> None:
    fill_cart(world, world.visitor(), {"KIT-COL-H-XL": 4})


def someone_empties_a_cart(world: World) -> None:
    visitor = world.visitor()
    fill_cart(world, visitor, {"KIT-COL-H-S": 1, "PROG-1": 1})
    visitor.do("removeAllOrderLines", on="Order")


def kumari_starts_a_cart_and_logs_out(world: World) -> None:
    visitor = world.visitors["kumari"]
    fill_cart(world, visitor, {"KIT-GAL-R-S": 1})
    visitor.do("logout", fields="success")


def kumari_fills_an_anonymous_cart_and_logs_in(world: World) -> None:
    """The two carts are merged, the anonymous one is deleted."""
    visitor = world.visitors["kumari"] = world.visitor()
    fill_cart(world, visitor, {"KIT-GAL-R-S": 1, "KIT-COL-H-L": 1})
    world.log_in(visitor, KUMARI.email)


def kumari_orders_the_merged_cart(world: World) -> None:
    account_order(world, "kumari's", KUMARI, {"PROG-1": 1}, visitor=world.visitors["kumari"])


def a_guest_uses_kumaris_address_with_another_name(world: World) -> None:
    """A known e-mail address: Vendure overwrites the customer's row and fires nothing."""
    visitor = world.visitors["guest"] = world.visitor()
    world.orders["guest's"] = fill_cart(world, visitor, {"KIT-COL-H-S": 1})
    visitor.do(
        "setCustomerForOrder(input: CreateCustomerInput!)",
        on="Order",
        input=KUMARI.as_customer() | {"lastName": "De Silva", "phoneNumber": "0779998887"},
    )


def the_guest_completes_that_order(world: World) -> None:
    visitor = world.visitors["guest"]
    shopping.address(visitor, KUMARI)
    shopping.choose_shipping(visitor)
    shopping.go_to_payment(visitor)
    shopping.pay(visitor)


def yuki_orders_in_yen(world: World) -> None:
    guest_order(world, "yuki's", YUKI, {"KIT-COL-H-S": 1}, visitor=world.visitor(channel=JAPAN))


def haruto_orders_two_in_yen(world: World) -> None:
    lines = {"KIT-GAL-R-M": 2, "PROG-1": 1}
    guest_order(world, "haruto's", HARUTO, lines, visitor=world.visitor(channel=JAPAN), outcome="authorize")


def noura_orders_in_dinars(world: World) -> None:
    guest_order(world, "noura's", NOURA, {"KIT-COL-A-M": 3}, visitor=world.visitor(currency="KWD"))


def faisal_orders_in_dinars(world: World) -> None:
    visitor = world.visitor(currency="KWD")
    guest_order(world, "faisal's", FAISAL, {"KIT-JAF-G-S": 1, "PROG-1": 7}, visitor=visitor, shipping=PICKUP)


def ishara_orders_from_two_sellers(world: World) -> None:
    """The order is split at payment; no event fires for the seller orders."""
    guest_order(world, "ishara's", ISHARA, {"KIT-COL-H-M": 1, "SCARF-1": 2})


def lakmal_orders_one_of_everything(world: World) -> None:
    lines = {sku: 1 for sku in world.variants if sku.startswith("KIT-")}
    guest_order(world, "lakmal's", LAKMAL, lines, outcome="authorize")


ACTIONS: tuple[Action, ...] = (
    tamara_fills_a_cart,
    tamara_takes_two_kits,
    tamara_puts_the_programmes_back,
    tamara_uses_a_coupon,
    tamara_removes_the_coupon,
    tamara_says_who_she_is,
    tamara_gives_her_addresses,
    tamara_chooses_the_courier,
    tamara_goes_to_payment_and_back_for_the_coupon,
    tamaras_card_is_declined,
    tamaras_bank_fails,
    tamara_pays_with_another_card,
    nimal_orders_with_an_authorized_card,
    nimal_orders_again_cash_on_delivery,
    mohamed_orders_for_pickup,
    someone_leaves_a_cart,
    someone_empties_a_cart,
    kumari_starts_a_cart_and_logs_out,
    kumari_fills_an_anonymous_cart_and_logs_in,
    kumari_orders_the_merged_cart,
    a_guest_uses_kumaris_address_with_another_name,
    the_guest_completes_that_order,
    yuki_orders_in_yen,
    haruto_orders_two_in_yen,
    noura_orders_in_dinars,
    faisal_orders_in_dinars,
    ishara_orders_from_two_sellers,
    lakmal_orders_one_of_everything,
)
