"""What admins do with placed orders: payments, parcels, changes, cancellations, refunds."""

from __future__ import annotations

from typing import Any

from tests.e2e.people import MOHAMED, TAMARA
from tests.e2e.world import Action, World


def nimals_payment_is_settled(world: World) -> None:
    _settle_payment(world, "nimal's")


def haruto_pays_his_yen(world: World) -> None:
    _settle_payment(world, "haruto's")


def lakmals_payment_is_settled(world: World) -> None:
    _settle_payment(world, "lakmal's")


def _settle_payment(world: World, name: str) -> None:
    world.admin.do("settlePayment(id: ID!)", on="Payment", id=world.order(name)["payments"][0]["id"])


def bhanus_payment_is_cancelled(world: World) -> None:
    payment = world.order("bhanu's second")["payments"][0]["id"]
    world.admin.do("cancelPayment(id: ID!)", on="Payment", id=payment)


def a_parcel_with_half_of_nimals_order(world: World) -> None:
    _pack(world, "nimal's", {"KIT-KAN-H-L": 1}, "SLP-100001")


def nimals_first_parcel_is_shipped(world: World) -> None:
    _move_parcel(world, "nimal's", 0, "Shipped")


def a_parcel_with_the_rest_of_nimals_order(world: World) -> None:
    _pack(world, "nimal's", {"KIT-KAN-H-L": 1}, "SLP-100002")


def nimals_second_parcel_is_shipped(world: World) -> None:
    _move_parcel(world, "nimal's", 1, "Shipped")


def nimals_parcels_are_delivered(world: World) -> None:
    _move_parcel(world, "nimal's", 0, "Delivered")
    _move_parcel(world, "nimal's", 1, "Delivered")


def mohameds_parcel_is_packed(world: World) -> None:
    _pack(world, "mohamed's", {"KIT-JAF-G-L": 1, "PROG-1": 2}, "")


def mohameds_parcel_is_unpacked(world: World) -> None:
    _move_parcel(world, "mohamed's", 0, "Cancelled")


def mohameds_parcel_is_packed_again_and_handed_over(world: World) -> None:
    _pack(world, "mohamed's", {"KIT-JAF-G-L": 1, "PROG-1": 2}, "counter")
    _move_parcel(world, "mohamed's", 1, "Shipped")
    _move_parcel(world, "mohamed's", 1, "Delivered")


def _pack(world: World, name: str, quantities: dict[str, int], tracking_code: str) -> None:
    lines = [{"orderLineId": world.line(name, sku), "quantity": quantity} for sku, quantity in quantities.items()]
    arguments = [
        {"name": "method", "value": "Courier"},
        {"name": "trackingCode", "value": tracking_code},
    ]
    handler = {"code": "manual-fulfillment", "arguments": arguments}
    world.admin.do(
        "addFulfillmentToOrder(input: FulfillOrderInput!)",
        on="Fulfillment",
        input={"lines": lines, "handler": handler},
    )


def _move_parcel(world: World, name: str, number: int, state: str) -> None:
    parcels = sorted(world.order(name)["fulfillments"], key=lambda parcel: parcel["createdAt"])
    world.admin.do(
        "transitionFulfillmentToState(id: ID!, state: String!)",
        on="Fulfillment",
        id=parcels[number]["id"],
        state=state,
    )


def tamara_wants_a_name_on_her_shirt(world: World) -> None:
    line = world.line("tamara's", "KIT-GAL-R-L")
    change = {"orderLineId": line, "quantity": 1, "customFields": {"printName": "TAMARA", "printNumber": "9"}}
    _modify(world, "tamara's", adjustOrderLines=[change])


def tamara_wants_one_shirt_less(world: World) -> None:
    line = {"orderLineId": world.line("tamara's", "KIT-COL-H-M"), "quantity": 1}
    _modify(world, "tamara's", adjustOrderLines=[line])


def tamara_moves_house(world: World) -> None:
    new_home = {"streetLine1": "5 Ramparts Street", "city": "Galle Fort", "phoneNumber": TAMARA.phone}
    _modify(world, "tamara's", updateShippingAddress=new_home)


def lakmal_adds_a_programme_with_a_surcharge_for_wrapping(world: World) -> None:
    wrapping = {"description": "Gift wrapping", "sku": "WRAP", "price": 25000, "priceIncludesTax": True}
    programme = {"productVariantId": world.variants["PROG-1"], "quantity": 1}
    _modify(world, "lakmal's", addItems=[programme], surcharges=[wrapping])


def lakmal_removes_a_line(world: World) -> None:
    line = {"orderLineId": world.line("lakmal's", "KIT-KAN-H-S"), "quantity": 0}
    _modify(world, "lakmal's", adjustOrderLines=[line])


def noura_adds_a_kit_in_dinars(world: World) -> None:
    patch = {"patchEnabled": True, "patchType": "CUP"}
    line = {"productVariantId": world.variants["KIT-GAL-R-XL"], "quantity": 1, "customFields": patch}
    _modify(world, "noura's", addItems=[line])


def _modify(world: World, name: str, **changes: Any) -> None:
    """Change a placed order as an admin does: look at the new price, then refund or collect the difference."""
    order = world.order(name)
    _transition(world, order["id"], "Modifying")
    changes |= {"orderId": order["id"]}
    preview = _send_modification(world, changes | {"dryRun": True})
    difference = preview["totalWithTax"] - order["totalWithTax"]
    if difference < 0:
        settled = [payment for payment in order["payments"] if payment["state"] == "Settled"]
        largest = max(settled, key=lambda payment: payment["amount"])
        changes["refunds"] = [{"paymentId": largest["id"], "amount": -difference, "reason": "modified"}]
    _send_modification(world, changes | {"dryRun": False})
    if difference > 0:
        _collect_the_difference(world, order["id"])
    _transition(world, order["id"], order["state"])


def _send_modification(world: World, changes: dict[str, Any]) -> dict[str, Any]:
    modified: dict[str, Any] = world.admin.do(
        "modifyOrder(input: ModifyOrderInput!)", on="Order", fields="id totalWithTax", input=changes
    )
    return modified


def _collect_the_difference(world: World, order: str) -> None:
    _transition(world, order, "ArrangingAdditionalPayment")
    world.admin.do(
        "addManualPaymentToOrder(input: ManualPaymentInput!)",
        on="Order",
        input={"orderId": order, "method": "card", "transactionId": f"more-{order}", "metadata": {}},
    )


def _transition(world: World, order: str, state: str) -> None:
    world.admin.do("transitionOrderToState(id: ID!, state: String!)", on="Order", id=order, state=state)


def one_of_faisals_programmes_is_cancelled(world: World) -> None:
    line = {"orderLineId": world.line("faisal's", "PROG-1"), "quantity": 1}
    _cancel(world, "faisal's", lines=[line], reason="sold out")


def chathuras_order_is_cancelled(world: World) -> None:
    _cancel(world, "chathura's first", cancelShipping=True, reason="changed his mind")


def yukis_order_is_cancelled(world: World) -> None:
    _cancel(world, "yuki's", reason="customs")


def _cancel(world: World, name: str, **how: Any) -> None:
    world.admin.do("cancelOrder(input: CancelOrderInput!)", on="Order", input={"orderId": world.orders[name]} | how)


def yuki_is_refunded_by_bank_transfer(world: World) -> None:
    _refund(world, "yuki's", "by bank transfer")


def yukis_refund_is_settled(world: World) -> None:
    refund = world.order("yuki's")["payments"][0]["refunds"][0]["id"]
    world.admin.do(
        "settleRefund(input: SettleRefundInput!)",
        on="Refund",
        input={"id": refund, "transactionId": "bank-77001"},
    )


def faisal_is_refunded_a_part(world: World) -> None:
    _refund(world, "faisal's", "sold out", amount=343)


def deepas_refund_fails(world: World) -> None:
    _refund(world, "deepa's first", "unreachable", amount=35000)


def _refund(world: World, name: str, reason: str, amount: int | None = None) -> None:
    payment = world.order(name)["payments"][0]
    wanted = {"paymentId": payment["id"], "amount": amount or payment["amount"], "reason": reason}
    deprecated = {"shipping": 0, "adjustment": 0}  # Vendure 3.7.3 fails without them
    world.admin.do("refundOrder(input: RefundOrderInput!)", on="Refund", input=wanted | deprecated)


def a_note_on_nimals_order(world: World) -> None:
    world.admin.do(
        "addNoteToOrder(input: AddNoteToOrderInput!)",
        input={"id": world.orders["nimal's"], "note": "Leave at the gate", "isPublic": True},
    )


def mohameds_order_was_kumaris(world: World) -> None:
    """An order is given to another customer."""
    world.admin.do(
        "setOrderCustomer(input: SetOrderCustomerInput!)",
        input={"orderId": world.orders["mohamed's"], "customerId": world.customers["kumari"]},
    )


def and_is_given_back(world: World) -> None:
    world.admin.do(
        "setOrderCustomer(input: SetOrderCustomerInput!)",
        input={"orderId": world.orders["mohamed's"], "customerId": world.customer_id(MOHAMED.email)},
    )


ACTIONS: tuple[Action, ...] = (
    nimals_payment_is_settled,
    haruto_pays_his_yen,
    lakmals_payment_is_settled,
    bhanus_payment_is_cancelled,
    a_parcel_with_half_of_nimals_order,
    nimals_first_parcel_is_shipped,
    a_parcel_with_the_rest_of_nimals_order,
    nimals_second_parcel_is_shipped,
    nimals_parcels_are_delivered,
    mohameds_parcel_is_packed,
    mohameds_parcel_is_unpacked,
    mohameds_parcel_is_packed_again_and_handed_over,
    tamara_wants_a_name_on_her_shirt,
    tamara_wants_one_shirt_less,
    tamara_moves_house,
    lakmal_adds_a_programme_with_a_surcharge_for_wrapping,
    lakmal_removes_a_line,
    noura_adds_a_kit_in_dinars,
    one_of_faisals_programmes_is_cancelled,
    faisal_is_refunded_a_part,
    chathuras_order_is_cancelled,
    yukis_order_is_cancelled,
    yuki_is_refunded_by_bank_transfer,
    yukis_refund_is_settled,
    deepas_refund_fails,
    a_note_on_nimals_order,
    mohameds_order_was_kumaris,
    and_is_given_back,
)
