"""What the engine is to be told: an admin's change of a delivery, the latest of each order, and never its own."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from tests.database.shop import Shop

WAITING = """
    select o.source_id, c.payload from mirror.outbox c
    join public.customer_orders_summary o on o.id = c.order_summary_id
    where c.state = 'pending' order by o.source_id
"""


async def waiting(shop: Shop) -> list[tuple[str, dict[str, Any]]]:
    return [(row["source_id"], json.loads(row["payload"])) for row in await shop.admin.run(WAITING)]


async def test_an_admins_edit_queues_a_command_for_the_engine(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING")
    assert await waiting(shop) == [("1", {"stage": "SOURCING", "tracking_number": None})]


async def test_what_the_engine_tells_queues_nothing(shop: Shop) -> None:
    await shop.place("1")
    await shop.place("1", customFields={"deliveryStage": "DISPATCHED", "trackingNumber": "SLP-1"})
    assert await shop.stages("1") == ["DISPATCHED"]
    assert await waiting(shop) == []


async def test_of_an_orders_changes_only_the_latest_waits(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING")
    await shop.edit_order("1", delivery_stage="DISPATCHED", tracking_number="SLP-1")
    assert await waiting(shop) == [("1", {"stage": "DISPATCHED", "tracking_number": "SLP-1"})]


@pytest.mark.parametrize("claimed", ["null", "mirror.uuid_v7()"], ids=["waiting", "claimed"])
async def test_a_later_change_ends_a_command_that_was_not_handed_out(shop: Shop, claimed: str) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING")
    await shop.admin.run(f"update mirror.outbox set claimed_by = {claimed}, attempts = 1")
    await shop.edit_delivery("1", stage="ARRIVED")
    commands = await shop.admin.run("select state, claimed_by, attempts, reason from mirror.outbox order by created_at")
    assert [tuple(command) for command in commands] == [
        ("skipped", None, 1, "superseded by a newer change"),
        ("pending", None, 0, None),
    ]


async def test_a_later_change_leaves_a_command_in_the_hands_of_its_sender_and_says_what_comes_next(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING")
    await shop.admin.run(
        "update mirror.outbox set claimed_by = mirror.uuid_v7(), attempts = 1, handed_out = payload, "
        "available_at = now() + interval '1 hour'"
    )
    await shop.edit_delivery("1", stage="ARRIVED")
    (command,) = await shop.admin.run(
        "select claimed_by is not null, available_at > now(), payload ->> 'stage', handed_out ->> 'stage' "
        "from mirror.outbox"
    )
    assert tuple(command) == (True, True, "ARRIVED", "SOURCING")


async def test_a_batch_that_moves_on_queues_a_command_for_each_of_its_orders(shop: Shop) -> None:
    await shop.place("1", "2")
    (batch,) = await shop.batches()
    await shop.move_batch(batch["id"], "orderedFromSupplier")
    sourcing = {"stage": "SOURCING", "tracking_number": None}
    assert await waiting(shop) == [("1", sourcing), ("2", sourcing)]


async def test_a_note_concerns_the_engine_not(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", note="The courier called.")
    assert await waiting(shop) == []


@pytest.mark.parametrize(
    "impossible",
    [
        "update mirror.outbox set state = 'sent'",
        "update mirror.outbox set settled_at = now()",
        "update mirror.outbox set state = 'dead', settled_at = now()",
        "update mirror.outbox set state = 'skipped', settled_at = now()",
        "update mirror.outbox set is_confirmed = true",
        "update mirror.outbox set state = 'sent', settled_at = now(), claimed_by = mirror.uuid_v7()",
    ],
)
async def test_no_command_is_in_an_impossible_state(shop: Shop, impossible: str) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING")
    with pytest.raises(asyncpg.CheckViolationError):
        await shop.admin.run(impossible)


async def test_a_store_that_is_connected_twice_is_told_once(shop: Shop) -> None:
    await shop.admin.run(
        "insert into mirror.integrations (store_id, slug, engine, secrets_variable) "
        "select store_id, 'second', engine, 'OTHER_SECRETS' from mirror.integrations"
    )
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING")
    assert await waiting(shop) == [("1", {"stage": "SOURCING", "tracking_number": None})]
