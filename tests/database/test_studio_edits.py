"""What Studio can do to the mirror's tables: all that should follows from it, or a sentence refuses it."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import phonenumbers
import pytest

from tests.database.shop import Shop
from tests.database.studio import refusal

INBOX, OUTBOX = "mirror.webhook_events", "mirror.outbox"
SPARED = {
    "mirror.delivery_norms", "mirror.drift", "mirror.expected_steps", "mirror.hook_gaps", "mirror.hook_pulse",
    "mirror.otp_usage", "mirror.request_counts", "mirror.request_salt", "mirror.sms_deliveries", "mirror.sync_seen",
    "public.otp_sessions",
}  # fmt: skip
"""Tables that may be emptied: what is in them comes again, or is forgotten in time anyway."""

OURS = """
    select format('%s.%s', relnamespace::regnamespace, relname) from pg_class
    where relnamespace in ('public'::regnamespace, 'mirror'::regnamespace) and relkind = 'r'
"""
COMMANDS = """
    select c.state::text, c.payload ->> 'stage' from mirror.outbox c
    join public.customer_orders_summary o on o.id = c.order_summary_id
    where o.source_id = $1 order by c.created_at, c.id
"""


async def test_no_table_is_emptied(shop: Shop) -> None:
    await shop.place("1")
    tables = {row[0] for row in await shop.admin.run(OURS)}
    assert tables > SPARED
    for table in tables - SPARED:
        with pytest.raises(asyncpg.PostgresError):
            await shop.admin.delete_all(table)
        with pytest.raises((asyncpg.RestrictViolationError, asyncpg.CheckViolationError)):
            await shop.admin.run(f"truncate {table} cascade")
    for table in SPARED:
        await shop.admin.delete_all(table)
    assert await refusal(shop.admin.delete_all("order_delivery_status")) == (
        "The rows of order_delivery_status are not removed all at once.",
        "Choose those that are to go by a filter, and delete them: what follows is done then, or refused.",
    )


# Events


async def dead_event(shop: Shop) -> UUID:
    """Let an event be refused: its order's currency is none."""
    await shop.mirror.take(shop.told("1", currencyCode="nonsense"))
    ((event,),) = await shop.admin.run("select id from mirror.webhook_events where state = 'dead'")
    found: UUID = event
    return found


async def test_a_dead_event_is_applied_again_by_its_cell(shop: Shop) -> None:
    event = await dead_event(shop)
    await shop.admin.run(f"update {INBOX} set attempts = 7 where id = $1", event)
    row = await shop.admin.edit(INBOX, event, state="pending")
    assert (row["state"], row["attempts"], row["reason"], row["settled_at"]) == ("pending", 0, None, None)
    ((actor,),) = await shop.admin.run("select distinct actor from mirror.audit_log where row_id = $1", event)
    assert actor == "studio"
    assert (await shop.mirror.drain().run()).dead == 1


async def test_an_event_is_left_out_by_its_cell(shop: Shop) -> None:
    event = await dead_event(shop)
    row = await shop.admin.edit(INBOX, event, state="skipped")
    assert row["state"] == "skipped"
    assert row["reason"].endswith("(skipped by studio)")
    await shop.mirror.accept(shop.told("2"))
    ((waiting,),) = await shop.admin.run(f"select id from {INBOX} where state = 'pending'")
    row = await shop.admin.edit(INBOX, waiting, state="skipped")
    assert (row["state"], row["reason"]) == ("skipped", "skipped by studio")
    assert row["settled_at"] is not None


async def test_an_event_is_not_lost(shop: Shop) -> None:
    event = await dead_event(shop)
    ((name,),) = await shop.admin.run(f"select event_id from {INBOX} where id = $1", event)
    assert await refusal(shop.admin.delete(INBOX, event)) == (
        f"Event {name} is dead and cannot be deleted.",
        "If it is not to be applied, set its state to skipped: it is removed in time.",
    )
    assert await refusal(shop.admin.edit(INBOX, event, state="applied")) == (
        f"Event {name} is dead and cannot become applied.",
        "pending has it applied again; skipped leaves out what is not applied yet.",
    )
    await shop.admin.edit(INBOX, event, state="pending")
    await shop.admin.run(f"update {INBOX} set claimed_by = $1, available_at = now() + interval '1 minute'", event)
    assert await refusal(shop.admin.edit(INBOX, event, state="skipped")) == (
        f"Event {name} is being applied.",
        "Look again in a minute.",
    )


# Commands


async def commands(shop: Shop) -> list[tuple[str, str]]:
    """Return what became of the order's commands, and the stage of each."""
    return [tuple(row) for row in await shop.admin.run(COMMANDS, "1")]


async def test_an_edit_queues_one_command_and_the_next_takes_its_place(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING", note="bought", updated_by="Ruwan")
    assert await commands(shop) == [("pending", "SOURCING")]
    await shop.edit_order("1", tracking_number="T1", delivery_stage="ARRIVED")
    assert await commands(shop) == [("skipped", "SOURCING"), ("pending", "ARRIVED")]


async def test_a_command_is_not_lost(shop: Shop) -> None:
    await shop.place("1")
    await shop.edit_delivery("1", stage="SOURCING")
    ((command,),) = await shop.admin.run(f"select id from {OUTBOX}")
    told_again = (
        "What became of a command is kept by the mirror and cannot be edited.",
        "To have the shop told again: select resend_order_deliveries('CODE1');",
    )
    for state in ("sent", "skipped", "dead"):
        assert await refusal(shop.admin.edit(OUTBOX, command, state=state)) == told_again
    assert await refusal(shop.admin.delete(OUTBOX, command)) == (
        "What the shop is to be told of order CODE1 cannot be deleted.",
        "Change its stage or tracking number: only the latest counts, and what the shop has already it is not told.",
    )
    await shop.admin.run(f"update {OUTBOX} set state = 'dead', reason = 'refused', settled_at = now()")
    for state in ("pending", "sent", "skipped"):
        assert await refusal(shop.admin.edit(OUTBOX, command, state=state)) == told_again
    await shop.admin.run("select resend_order_deliveries('CODE1')")
    assert await commands(shop) == [("dead", "SOURCING"), ("pending", "SOURCING")]


# Settings


async def test_a_store_has_a_time_zone_that_is_one(shop: Shop) -> None:
    for zone in ("Mars/Phobos", "asia/colombo", "", "UTC+5"):
        sentence, hint = await refusal(shop.edit_store(timezone=zone))
        assert sentence == f"There is no time zone {zone or '(empty)'}."
        assert hint is not None
    await shop.edit_store(timezone="Europe/Berlin")
    await shop.place("1")
    assert len(await shop.batches()) == 1


async def test_a_store_has_a_country_that_is_one(shop: Shop) -> None:
    for region in ("UK", "XX", "lk", ""):
        sentence, hint = await refusal(shop.edit_store(phone_region=region))
        assert sentence == f"There is no country {region or '(empty)'}."
        assert hint == "Write the two letters of ISO 3166, like LK, or GB for the United Kingdom."
    for region in phonenumbers.SUPPORTED_REGIONS:
        await shop.edit_store(phone_region=region)


async def test_an_integration_stays_what_it_is(shop: Shop) -> None:
    ((integration,),) = await shop.admin.run("select id from mirror.integrations")
    await shop.admin.edit("mirror.integrations", integration, conflict_policy="ask", reconcile_every=None)
    assert await refusal(shop.admin.edit("mirror.integrations", integration, engine="shopify")) == (
        "Integration vendure stays with its store and its engine.",
        "What it has brought is theirs. Add one for the other, and set is_active of this one to false.",
    )


async def test_what_a_store_s_cell_wants_is_in_the_name_of_the_rule(shop: Shop) -> None:
    for cells, rule in (
        ({"accent_color": "red"}, "accent_color_is_like_2457d6"),
        ({"carrier_links": {"DHL": "http://x/{number}"}}, "carrier_links_are_https_addresses_with_number"),
        ({"allowed_origins": ["https://shop.example/"]}, "allowed_origins_are_like_https_shop_example"),
    ):
        sentence, _ = await refusal(shop.edit_store(**cells))
        assert rule in sentence
