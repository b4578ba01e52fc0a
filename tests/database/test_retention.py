"""The inbox forgets payloads after a time, and keys after a longer one; nothing that still matters goes."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg
import pytest

from sync.database import connect
from sync.schedule import run_due
from tests.factory import customer_changed, line, order_changed
from tests.hooks import change
from tests.mirror import Mirror

REFUSALS = {
    "Events are kept for a day at least": "update mirror.retention set keep = '1 hour' where what = 'events'",
    "Keys are kept at least as long as events: 10": "update mirror.retention set keep = '10 days' where what = 'keys'",
    "neither row can go": "delete from mirror.retention where what = 'keys'",
    "Both events and keys": "truncate mirror.retention",
}
AGE = """
    update mirror.webhook_events
    set id = overlay(mirror.least_uuid_v7(created_at - $1::interval)::text placing right(id::text, 12) from 25)::uuid,
      settled_at = settled_at - $1::interval,
      created_at = created_at - $1::interval
    where event_id = $2
"""


async def age(mirror: Mirror, event_id: str, by: timedelta) -> None:
    """Make an event as old as that, as if it had arrived and been settled so long ago."""
    await mirror.connection.execute("alter table mirror.webhook_events disable trigger audit")
    await mirror.connection.execute(AGE, by, event_id)
    await mirror.connection.execute("alter table mirror.webhook_events enable trigger audit")


async def prune(mirror: Mirror, days: int = 30, keys: int = 180, limit: int = 100) -> int:
    now = await mirror.connection.fetchval("select now()")
    before = [now - timedelta(days=days), now - timedelta(days=keys)]
    return int(await mirror.connection.fetchval("select mirror.prune_events($1, $2, $3)", *before, limit))


@pytest.mark.parametrize(("sentence", "edit"), REFUSALS.items(), ids=REFUSALS)
async def test_what_makes_no_sense_is_refused_with_a_sentence(
    connection: asyncpg.Connection, sentence: str, edit: str
) -> None:
    with pytest.raises(asyncpg.PostgresError, match=sentence) as refused:
        await connection.execute(edit)
    assert refused.value.hint


async def test_settled_events_go_after_their_time_and_all_others_stay(mirror: Mirror) -> None:
    poison = order_changed("9", 1, lines=[line("1", quantity=-1)])
    events = [customer_changed("1", 1), change("coupon", type="coupon.changed"), poison, customer_changed("2", 1)]
    await mirror.take(*events)
    await mirror.accept(customer_changed("3", 1))
    for event in [*events[:3], *await mirror.column("select event_id from mirror.list_events(p_state => 'pending')")]:
        await age(mirror, event["id"] if isinstance(event, dict) else event, timedelta(days=31))
    assert await prune(mirror) == 2
    assert sorted(await mirror.events("state || ' ' || entity_id")) == ["applied 2", "dead 9", "pending 3"]
    assert await prune(mirror) == 0


async def test_what_was_pending_for_long_and_is_settled_now_stays(mirror: Mirror) -> None:
    event = customer_changed("1", 1)
    await mirror.accept(event)
    await age(mirror, event["id"], timedelta(days=40))
    await mirror.drain().run()
    assert await prune(mirror) == 0
    assert await mirror.events() == ["applied"]


async def test_a_hook_that_comes_again_after_its_event_is_gone_is_a_duplicate(mirror: Mirror) -> None:
    event, other = customer_changed("1", 1), customer_changed("2", 1)
    await mirror.take(event)
    await age(mirror, event["id"], timedelta(days=31))
    assert await prune(mirror) == 1
    assert await mirror.accept(event, other, event) == [False, True, False]
    assert await mirror.events("event_id") == [other["id"]]


async def test_keys_go_after_their_own_time(mirror: Mirror) -> None:
    recent, old, older = (customer_changed(str(n), 1) for n in range(3))
    await mirror.take(recent, old, older)
    for event, days in ((recent, 31), (old, 179), (older, 181)):
        await age(mirror, event["id"], timedelta(days=days))
    await prune(mirror)
    seen = "select event_id from mirror.seen_events order by seen_at"
    assert await mirror.column(seen) == [old["id"], recent["id"]]
    assert await prune(mirror, days=30, keys=100) == 1
    assert await mirror.column(seen) == [recent["id"]]
    assert await mirror.accept(old, recent) == [True, False]


async def test_a_batch_takes_the_oldest_and_no_more_than_asked(mirror: Mirror) -> None:
    events = [customer_changed(str(n), 1) for n in range(5)]
    await mirror.take(*events)
    for days, event in enumerate(events, 40):
        await age(mirror, event["id"], timedelta(days=days))
    assert await prune(mirror, limit=2) == 2
    assert sorted(await mirror.events("entity_id")) == ["0", "1", "2"]


async def test_two_that_prune_at_once_do_not_wait_for_each_other(mirror: Mirror, database: str) -> None:
    events = [customer_changed(str(n), 1) for n in range(4)]
    await mirror.take(*events)
    for event in events:
        await age(mirror, event["id"], timedelta(days=31))
    other = await asyncpg.connect(database)
    async with other.transaction():
        now: datetime = await other.fetchval("select now()")
        thirty, long = now - timedelta(days=30), now - timedelta(days=180)
        assert await other.fetchval("select mirror.prune_events($1, $2, 2)", thirty, long) == 2
        assert await prune(mirror) == 2
    await other.close()
    assert await mirror.events() == []


async def test_the_job_comes_round_at_once_while_there_is_more(mirror: Mirror, database: str) -> None:
    """Five thousand a run: with more, the job is due again, and the daemon does not wait for the minute."""
    await mirror.connection.execute(
        "insert into mirror.webhook_events "
        "(id, integration_id, event_id, event_type, payload, state, settled_at, created_at) "
        "select mirror.least_uuid_v7(at + n * interval '1 second'), $1, 'old ' || n, 'x', '{}', 'applied', at, at "
        "from generate_series(1, 5001) as n cross join (select now() - interval '60 days' as at) as t",
        mirror.integration,
    )  # fmt: skip
    async with connect(database) as door:
        assert "prune" in await run_due(door)
        assert len(await mirror.events()) == 1
        assert await run_due(door) == ["prune"]
        assert await run_due(door) == []
    assert await mirror.events() == []
    assert await mirror.column("select count(*) from mirror.seen_events") == [5001]
