"""People look after events: they find them, read them, have them applied again, or leave them out."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from tests.factory import customer_changed, line, order_changed
from tests.hooks import change
from tests.mirror import Mirror

POISON = {"lines": [line("1", quantity=-1)]}


async def call(mirror: Mirror, function: str, *arguments: Any, **named: Any) -> Any:
    """Call a function as one does in Studio's SQL editor."""
    values = [*arguments, *named.values()]
    names = [None] * len(arguments) + list(named)
    places = ", ".join(f"{name} => ${n}" if name else f"${n}" for n, name in enumerate(names, 1))
    return json.loads(await mirror.connection.fetchval(f"select mirror.{function}({places})", *values))


async def listed(mirror: Mirror, conditions: str = "") -> list[str]:
    """Return the ids of the entities that mirror.list_events finds."""
    return await mirror.column(f"select entity_id from mirror.list_events({conditions})")


async def event_id(mirror: Mirror, entity: str) -> str:
    return str((await mirror.column("select event_id from mirror.webhook_events where entity_id = $1", entity))[0])


@pytest.fixture
async def shop(mirror: Mirror) -> Mirror:
    """One event applied, one skipped, two dead for different reasons, one pending."""
    await mirror.take_in_turn(
        customer_changed("1", 1),
        change("coupon", type="coupon.changed", entityId="5"),
        order_changed("8", 1, totalWithTax="free"),
        order_changed("9", 1, **POISON),
    )
    await mirror.accept(order_changed("10", 1))
    return mirror


@pytest.mark.parametrize(
    ("conditions", "entities"),
    [
        ("", ["10", "9", "8", "5", "1"]),
        ("p_limit => 2", ["10", "9"]),
        ("p_state => 'dead'", ["9", "8"]),
        ("p_state => 'pending'", ["10"]),
        ("p_type => 'order.changed', p_state => 'dead', p_entity => '8'", ["8"]),
        ("p_entity => '1'", ["1"]),
        ("p_reason => 'TOTALWITHTAX'", ["8"]),
        ("p_integration => 'vendure', p_state => 'skipped'", ["5"]),
        ("p_integration => 'other'", []),
        ("p_since => now() + interval '1 minute'", []),
        ("p_since => now() - interval '1 minute', p_limit => 1", ["10"]),
    ],
)
async def test_events_are_found_by_what_they_are(shop: Mirror, conditions: str, entities: list[str]) -> None:
    assert await listed(shop, conditions) == entities
    counted = conditions.replace(", p_limit => 1", "")
    if "p_limit" not in counted:
        expected = len(await listed(shop, counted))
        assert await shop.column(f"select mirror.count_events({counted})") == [expected]


async def test_an_event_is_shown_with_its_payload_and_the_list_has_none(shop: Mirror) -> None:
    (shown,) = await call(shop, "show_event", await event_id(shop, "1"))
    assert shown["payload"]["data"]["emailAddress"] == "customer1@example.com"
    assert (shown["state"], shown["integration"], shown["attempts"]) == ("applied", "vendure", 1)
    assert "payload" not in (await shop.connection.fetchrow("select * from mirror.list_events()") or {})
    assert await call(shop, "show_event", "no such event") == []


async def test_what_was_repaired_is_applied_when_it_is_retried(shop: Mirror) -> None:
    """Whoever made room for what the database refused has it applied, as if it had just come."""
    await shop.drain().run()
    await shop.connection.execute(
        "alter table public.customer_order_items drop constraint customer_order_items_quantity_check"
    )
    answer = await call(shop, "retry_events", p_reason="quantity_check")
    assert answer == {"retried": 1, "leased": [], "unknown": []}
    assert await shop.column("select attempts from mirror.list_events(p_entity => '9')") == [0]
    assert (await shop.drain().run()).applied == 1
    assert (await shop.order("9"))["order_code"] == "CODE9"


async def test_without_a_choice_all_dead_ones_are_retried_and_nothing_else(shop: Mirror) -> None:
    answer = await call(shop, "retry_events")
    assert (answer["retried"], sorted(await listed(shop, "p_state => 'pending'"))) == (2, ["10", "8", "9"])


async def test_a_retried_event_wakes_the_daemon(shop: Mirror) -> None:
    woken: list[str] = []
    await shop.connection.add_listener("mirror_inbox", lambda *_: woken.append("woken"))
    await call(shop, "retry_events", p_entity="no such entity")
    await call(shop, "retry_events", p_entity="8")
    await shop.connection.fetchval("select 1")
    assert woken == ["woken"]


async def test_an_older_event_that_is_retried_never_overwrites_newer_rows(mirror: Mirror) -> None:
    await mirror.take(order_changed("7", 1, **POISON), customer_changed("1", 1, firstName="Old"))
    await mirror.take(order_changed("7", 2, state="Shipped"), customer_changed("1", 2, firstName="New"))
    before = [await mirror.order("7"), await mirror.customer("1")]
    await mirror.connection.execute(
        "alter table public.customer_order_items drop constraint customer_order_items_quantity_check"
    )
    for ids in (None, await mirror.column("select event_id from mirror.webhook_events")):
        answer = await call(mirror, "retry_events", p_events=ids)
        assert answer["retried"] == (4 if ids else 1)
        counts = await mirror.drain().run()
        assert (counts.customers, counts.orders) == (0, 0)
        assert [await mirror.order("7"), await mirror.customer("1")] == before
    assert set(await mirror.events()) == {"applied"}


async def test_what_a_daemon_has_in_hand_is_left_alone_and_named(shop: Mirror) -> None:
    await shop.connection.execute("select mirror.claim_events(gen_random_uuid(), 10, '1 minute')")
    pending, dead = await event_id(shop, "10"), await event_id(shop, "9")
    chosen = [pending, dead, "no such event"]
    answer = await call(shop, "retry_events", p_events=chosen)
    assert answer == {"retried": 1, "leased": [pending], "unknown": ["no such event"]}
    await shop.connection.execute("update mirror.webhook_events set state = 'dead', reason = 'x', settled_at = now() "
                                  "where state = 'pending' and claimed_by is null")  # fmt: skip
    answer = await call(shop, "skip_events", "not ours", p_events=chosen)
    assert answer == {"skipped": 1, "leased": [pending], "settled": [], "unknown": ["no such event"]}
    assert await shop.column(
        "select claimed_by is not null from mirror.webhook_events where event_id = $1", pending
    ) == [True]


async def test_what_waits_for_its_time_is_tried_at_once_when_it_is_retried(shop: Mirror) -> None:
    await shop.connection.execute(
        "update mirror.webhook_events set available_at = now() + interval '1 hour', attempts = 9 "
        "where state = 'pending'"
    )
    assert (await call(shop, "retry_events", p_state="pending"))["retried"] == 1
    assert (await shop.drain().run()).applied == 1


async def test_skipped_events_keep_the_reason_and_who_gave_it(shop: Mirror) -> None:
    assert (await call(shop, "skip_events", "a test order"))["skipped"] == 2
    reasons = await shop.column(
        "select reason from mirror.list_events(p_state => 'skipped', p_type => 'order.changed')"
    )
    assert reasons == ["a test order (skipped by postgres)"] * 2
    assert await shop.drain().run() is not None
    assert await shop.column("select source_id from public.customer_orders_summary") == ["10"]


async def test_an_applied_event_is_not_skipped(shop: Mirror) -> None:
    applied = await event_id(shop, "1")
    answer = await call(shop, "skip_events", "why not", p_events=[applied])
    assert answer == {"skipped": 0, "leased": [], "settled": [applied], "unknown": []}


async def test_a_skip_needs_a_reason(shop: Mirror) -> None:
    with pytest.raises(asyncpg.PostgresError, match="An event is skipped for a reason"):
        await call(shop, "skip_events", "  ")


async def test_who_retried_what_and_why_it_was_dead_is_noted(shop: Mirror) -> None:
    await call(shop, "retry_events", p_entity="9")
    (noted,) = await shop.connection.fetch("select * from mirror.audit_log where table_name = 'webhook_events'")
    old, new = json.loads(noted["old_values"]), json.loads(noted["new_values"])
    assert (noted["actor"], old["state"], new["state"]) == ("postgres", "dead", "pending")
    assert "quantity_check" in old["reason"]
    assert noted["row_id"] == (await shop.column("select id from mirror.list_events(p_entity => '9')"))[0]


async def test_what_daemons_settle_is_not_noted(shop: Mirror) -> None:
    assert await shop.column("select 1 from mirror.audit_log where table_name = 'webhook_events'") == []
