"""The five delivery stages, as an admin sets them in the shop."""

from __future__ import annotations

from functools import partial

from tests.e2e.world import Action, World

STAGES = ("ORDER_CONFIRMED", "SOURCING", "ARRIVED", "DISPATCHED", "DELIVERED")


def _set(world: World, name: str, **fields: str | None) -> None:
    world.admin.do(
        "setOrderCustomFields(input: UpdateOrderInput!)",
        input={"id": world.orders[name], "customFields": fields},
    )


def _reaches(name: str, stage: str, world: World) -> None:
    _set(world, name, deliveryStage=stage)


def tamaras_order_gets_a_tracking_number(world: World) -> None:
    _set(world, "tamara's", trackingNumber="SLP-200001")


def tamaras_tracking_number_is_corrected(world: World) -> None:
    _set(world, "tamara's", trackingNumber="SLP-200010")


def tamaras_parcel_went_astray_and_is_sourced_again(world: World) -> None:
    """Back by three stages, without a tracking number."""
    _set(world, "tamara's", deliveryStage="SOURCING", trackingNumber=None)


def tamaras_parcel_is_sent_again(world: World) -> None:
    _set(world, "tamara's", deliveryStage="DISPATCHED", trackingNumber="SLP-200011")


def nimals_second_order_moves_twice_within_a_second(world: World) -> None:
    _set(world, "nimal's second", deliveryStage="SOURCING")
    _set(world, "nimal's second", deliveryStage="ARRIVED")


def kumaris_stage_is_saved_unchanged(world: World) -> None:
    _set(world, "kumari's", deliveryStage="ARRIVED")


def nouras_order_is_dispatched_and_delivered_in_one_go(world: World) -> None:
    _set(world, "noura's", deliveryStage="DISPATCHED", trackingNumber="KWT-9")
    _set(world, "noura's", deliveryStage="DELIVERED")


def kasuns_order_is_dispatched(world: World) -> None:
    _set(world, "kasun's first", deliveryStage="DISPATCHED", trackingNumber="SLP-200020")


ACTIONS: tuple[Action, ...] = (
    *(partial(_reaches, "tamara's", stage) for stage in STAGES[:3]),
    tamaras_order_gets_a_tracking_number,
    partial(_reaches, "tamara's", "DISPATCHED"),
    tamaras_tracking_number_is_corrected,
    partial(_reaches, "tamara's", "DELIVERED"),
    tamaras_parcel_went_astray_and_is_sourced_again,
    tamaras_parcel_is_sent_again,
    nimals_second_order_moves_twice_within_a_second,
    partial(_reaches, "kumari's", "ARRIVED"),
    kumaris_stage_is_saved_unchanged,
    nouras_order_is_dispatched_and_delivered_in_one_go,
    partial(_reaches, "ashan's", "SOURCING"),
    partial(_reaches, "lakmal's", "SOURCING"),
    partial(_reaches, "amaya's first", "DISPATCHED"),
    partial(_reaches, "fathima's first", "DELIVERED"),
    *(partial(_reaches, "gayan's first", stage) for stage in STAGES),
    partial(_reaches, "hashini's first", "ORDER_CONFIRMED"),
    partial(_reaches, "indika's first", "SOURCING"),
    partial(_reaches, "janaki's first", "ARRIVED"),
    kasuns_order_is_dispatched,
)
