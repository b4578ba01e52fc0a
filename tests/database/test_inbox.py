"""The inbox takes an event once, lends it for a time, and settles it for whoever still holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from sync import inbox
from sync.errors import Reject, Retry
from sync.inbox import Claimed, Settlement
from tests.factory import customer_changed
from tests.hooks import change
from tests.mirror import Mirror

MINUTE = timedelta(minutes=1)
LAPSED = "update mirror.webhook_events set available_at = now() - interval '1 second'"


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


async def claim(mirror: Mirror, token: UUID, limit: int = 10) -> list[Claimed]:
    return await inbox.claim(mirror.database, token, limit=limit, lease=MINUTE)


async def settle(mirror: Mirror, token: UUID, *settlements: Settlement) -> None:
    await inbox.settle(mirror.database, token, settlements)


async def test_answers_come_in_the_order_of_the_events(mirror: Mirror) -> None:
    assert await mirror.accept(change("c"), change("a"), change("b")) == [True, True, True]
    assert await mirror.accept(change("d"), change("a"), change("e"), change("c")) == [True, False, True, False]
    assert await mirror.events("event_id") == ["a", "b", "c", "d", "e"]


async def test_a_duplicate_within_a_hook_is_stored_once_and_the_first_one_stays(mirror: Mirror) -> None:
    first, second = change("a", entityId="1"), change("a", entityId="2")
    assert await mirror.accept(first, change("b"), second) == [True, True, False]
    assert await mirror.events("entity_id") == ["1", "12"]


async def test_nothing_is_accepted_from_nothing(mirror: Mirror) -> None:
    assert await mirror.accept_read([]) == []


async def test_two_connections_that_bring_the_same_event_store_it_once(mirror: Mirror) -> None:
    answers = await asyncio.gather(*(mirror.accept(change("a"), change(f"b{n}")) for n in range(8)))
    assert sum(answer[0] for answer in answers) == 1
    assert all(answer[1] for answer in answers)


async def test_an_event_without_its_integration_is_refused(mirror: Mirror) -> None:
    mirror.integration = uuid4()
    with pytest.raises(Reject, match="foreign key"):
        await mirror.accept(change("a"))


async def test_a_new_event_wakes_listeners_and_a_known_one_does_not(mirror: Mirror) -> None:
    woken: list[str] = []
    await mirror.connection.add_listener("mirror_inbox", lambda *_: woken.append("woken"))
    for _ in range(2):
        await mirror.accept(change("a"))
    await mirror.connection.fetchval("select 1")
    assert woken == ["woken"]


async def test_a_claim_takes_the_longest_waiting_and_no_more_than_asked(mirror: Mirror) -> None:
    for name in "abc":
        await mirror.accept(change(name))
    claimed = await claim(mirror, uuid4(), limit=2)
    names = await mirror.column(
        "select event_id from mirror.webhook_events where id = any($1) order by 1", [event.id for event in claimed]
    )
    assert names == ["a", "b"]
    assert [event.attempts for event in claimed] == [1, 1]


async def test_what_is_claimed_is_claimed_by_nobody_else(mirror: Mirror) -> None:
    await mirror.accept(*(change(str(n)) for n in range(5)))
    assert len(await claim(mirror, uuid4())) == 5
    assert await claim(mirror, uuid4()) == []


async def test_two_claimers_do_not_wait_for_each_other(mirror: Mirror, other: asyncpg.Connection) -> None:
    await mirror.accept(*(change(str(n)) for n in range(5)))
    async with other.transaction():
        held = await other.fetch("select id from mirror.claim_events($1, 2, '1 minute')", uuid4())
        claimed = await claim(mirror, uuid4())
    assert (len(held), len(claimed)) == (2, 3)
    assert {row["id"] for row in held}.isdisjoint(event.id for event in claimed)


async def test_a_claim_that_is_rolled_back_leaves_the_events(mirror: Mirror, other: asyncpg.Connection) -> None:
    await mirror.accept(change("a"))
    transaction = other.transaction()
    await transaction.start()
    await other.fetch("select id from mirror.claim_events($1, 2, '1 minute')", uuid4())
    await transaction.rollback()
    assert len(await claim(mirror, uuid4())) == 1


async def test_a_lease_that_lapsed_is_taken_over(mirror: Mirror) -> None:
    await mirror.accept(change("a"))
    await claim(mirror, uuid4())
    await mirror.connection.execute(LAPSED)
    (event,) = await claim(mirror, uuid4())
    assert event.attempts == 2


async def test_whoever_lost_the_claim_settles_nothing(mirror: Mirror) -> None:
    await mirror.accept(change("a"), change("b"))
    first, second = uuid4(), uuid4()
    held = await claim(mirror, first)
    await mirror.connection.execute(LAPSED + " where event_id = 'b'")
    await claim(mirror, second)
    with pytest.raises(Retry, match="holds only 1 of the 2 events"):
        await settle(mirror, first, *(Settlement(event.id, "applied") for event in held))
    assert await mirror.events() == ["pending", "pending"]


async def test_a_lapsed_claim_that_nobody_took_may_still_settle(mirror: Mirror) -> None:
    await mirror.accept(change("a"))
    token = uuid4()
    (event,) = await claim(mirror, token)
    await mirror.connection.execute(LAPSED)
    await settle(mirror, token, Settlement(event.id, "applied"))
    assert await mirror.events() == ["applied"]


async def test_nothing_is_settled_twice(mirror: Mirror) -> None:
    await mirror.accept(change("a"))
    token = uuid4()
    (event,) = await claim(mirror, token)
    await settle(mirror, token, Settlement(event.id, "dead", "for a reason"))
    with pytest.raises(Retry):
        await settle(mirror, token, Settlement(event.id, "applied"))
    assert await mirror.events("reason") == ["for a reason"]


async def test_what_is_to_be_tried_again_waits_for_its_time(mirror: Mirror) -> None:
    await mirror.accept(change("a"), change("b"))
    token = uuid4()
    first, second = await claim(mirror, token)
    await settle(
        mirror, token,
        Settlement(first.id, "retry", "away", retry_after=60), Settlement(second.id, "retry", "away", retry_after=0),
    )  # fmt: skip
    assert [event.id for event in await claim(mirror, uuid4())] == [second.id]


@pytest.mark.parametrize("outcome", ["skipped", "dead"])
async def test_a_refusal_needs_a_reason(mirror: Mirror, outcome: inbox.Outcome) -> None:
    await mirror.accept(change("a"))
    token = uuid4()
    (event,) = await claim(mirror, token)
    with pytest.raises(Reject, match="refusal_has_reason"):
        await settle(mirror, token, Settlement(event.id, outcome))


async def test_records_and_settling_are_one(mirror: Mirror) -> None:
    """A worker that lost its claim while it worked has written nothing."""
    await mirror.accept(customer_changed("1", 1))
    drain, taken_over = mirror.drain(), uuid4()
    async with mirror.connection.transaction():
        await mirror.connection.execute("lock table public.customers in exclusive mode")
        working = asyncio.create_task(drain.run())
        while await mirror.events("attempts") != [1]:  # noqa: ASYNC110 - it happens on another connection
            await asyncio.sleep(0.02)
        await mirror.connection.execute(LAPSED)
        await mirror.connection.execute("select mirror.claim_events($1, 1, '1 minute')", taken_over)
    with pytest.raises(Retry, match="holds only 0 of the 1 events"):
        await working
    assert await mirror.column("select source_id from public.customers") == []
    assert await mirror.events("claimed_by") == [taken_over]
