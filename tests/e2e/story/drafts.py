"""Orders that an admin makes by telephone: drafts, with prints on the shirts."""

from __future__ import annotations

from typing import Any

from tests.e2e.catalogue import COUPON
from tests.e2e.people import ASHAN, CHAMARI
from tests.e2e.world import Action, World


def _draft(world: World, name: str, mutation: str, on: str | None = "Order", **values: Any) -> Any:
    """Run a mutation on the draft order `name`."""
    return world.admin.do(mutation, on=on, orderId=world.orders[name], **values)


def _add(world: World, name: str, sku: str, quantity: int, **custom_fields: Any) -> None:
    _draft(
        world,
        name,
        "addItemToDraftOrder(orderId: ID!, input: AddItemToDraftOrderInput!)",
        input={"productVariantId": world.variants[sku], "quantity": quantity, "customFields": custom_fields},
    )


def an_admin_starts_a_draft_for_ashan(world: World) -> None:
    world.orders["ashan's"] = world.admin.do("createDraftOrder")["id"]


def with_a_printed_shirt(world: World) -> None:
    _add(world, "ashan's", "KIT-COL-H-L", 1, printName="ASHAN", printNumber="10")


def and_two_shirts_with_a_patch(world: World) -> None:
    _add(world, "ashan's", "KIT-COL-A-M", 2, patchEnabled=True, patchType="LEAGUE", preOrder=True)


def ashan_wants_another_number_on_the_shirt(world: World) -> None:
    """Nothing but a custom field of a line: the order's updatedAt does not move."""
    _draft(
        world,
        "ashan's",
        "adjustDraftOrderLine(orderId: ID!, input: AdjustDraftOrderLineInput!)",
        input={
            "orderLineId": world.line("ashan's", "KIT-COL-H-L"),
            "quantity": 1,
            "customFields": {"printName": "ASHAN", "printNumber": "11"},
        },
    )


def the_draft_gets_its_customer(world: World) -> None:
    _draft(
        world,
        "ashan's",
        "setCustomerForDraftOrder(orderId: ID!, customerId: ID)",
        customerId=world.customers["ashan"],
    )


def the_draft_gets_its_address_and_shipping(world: World) -> None:
    _draft(
        world,
        "ashan's",
        "setDraftOrderShippingAddress(orderId: ID!, input: CreateAddressInput!)",
        on=None,
        input=ASHAN.address(),
    )
    _choose_courier(world, "ashan's")


def _choose_courier(world: World, name: str) -> None:
    methods = world.admin.query(
        "query($id: ID!) { eligibleShippingMethodsForDraftOrder(orderId: $id) { id code } }",
        id=world.orders[name],
    )
    courier = next(method["id"] for method in methods if method["code"] == "courier")
    _draft(
        world,
        name,
        "setDraftOrderShippingMethod(orderId: ID!, shippingMethodId: ID!)",
        shippingMethodId=courier,
    )


def the_draft_gets_a_coupon(world: World) -> None:
    _draft(world, "ashan's", "applyCouponCodeToDraftOrder(orderId: ID!, couponCode: String!)", couponCode=COUPON)


def ashan_pays_at_the_counter(world: World) -> None:
    _complete(world, "ashan's", "receipt-0001")


def _complete(world: World, name: str, receipt: str) -> None:
    order = world.orders[name]
    world.admin.do("transitionOrderToState(id: ID!, state: String!)", on="Order", id=order, state="ArrangingPayment")
    world.admin.do(
        "addManualPaymentToOrder(input: ManualPaymentInput!)",
        on="Order",
        input={"orderId": order, "method": "card", "transactionId": receipt, "metadata": {}},
    )


def an_admin_orders_for_a_new_customer(world: World) -> None:
    """The customer comes into being with the draft."""
    world.orders["chamari's"] = world.admin.do("createDraftOrder")["id"]
    _add(world, "chamari's", "KIT-KAN-H-S", 1, printName="චමරි", printNumber="7", patchEnabled=False)
    _draft(
        world,
        "chamari's",
        "setCustomerForDraftOrder(orderId: ID!, input: CreateCustomerInput)",
        input=CHAMARI.as_customer(),
    )
    _draft(
        world,
        "chamari's",
        "setDraftOrderShippingAddress(orderId: ID!, input: CreateAddressInput!)",
        on=None,
        input=CHAMARI.address(),
    )
    _choose_courier(world, "chamari's")
    _complete(world, "chamari's", "receipt-0002")


def an_admin_discards_a_draft(world: World) -> None:
    world.orders["discarded"] = world.admin.do("createDraftOrder")["id"]
    _add(world, "discarded", "PROG-1", 1)
    world.admin.do("deleteDraftOrder(orderId: ID!)", fields="result", orderId=world.orders.pop("discarded"))


ACTIONS: tuple[Action, ...] = (
    an_admin_starts_a_draft_for_ashan,
    with_a_printed_shirt,
    and_two_shirts_with_a_patch,
    ashan_wants_another_number_on_the_shirt,
    the_draft_gets_its_customer,
    the_draft_gets_its_address_and_shipping,
    the_draft_gets_a_coupon,
    ashan_pays_at_the_counter,
    an_admin_orders_for_a_new_customer,
    an_admin_discards_a_draft,
)
