"""How long what failed waits is data: it counts at once, and what makes no sense is refused with a sentence."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from sync import inbox
from sync.inbox import Settlement
from tests.factory import customer_changed
from tests.hooks import change
from tests.mirror import Mirror

WAIT = "select mirror.retry_wait($1, $2)"
REFUSALS = {
    "Events are never given up: attempt 3 needs a wait": "update mirror.retry_schedule set wait = null "
    "where work = 'event' and attempt = 3",
    "A wait of -00:00:01 before the next attempt": "update mirror.retry_schedule set wait = '-1 second'",
    "A wait of 2 days before the next attempt": "insert into mirror.retry_schedule (work, attempt, wait) "
    "values ('event', 9, '2 days')",
    "Attempts are counted from 1, not from 0": "insert into mirror.retry_schedule (work, attempt, wait) "
    "values ('command', 0, '1 second')",
    "The schedule for each event begins with attempt 1": "delete from mirror.retry_schedule where work = 'event'",
    "The schedule for each command begins with attempt 1": "update mirror.retry_schedule set wait = null "
    "where work = 'command' and attempt = 1",
    "A command is dead before attempt 30": "update mirror.retry_schedule set wait = null where work = 'command' "
    "and attempt = 6",
    "The schedule for each event": "truncate mirror.retry_schedule",
}


@pytest.mark.parametrize(
    ("work", "attempts", "wait"),
    [
        ("event", 1, timedelta(milliseconds=200)),
        ("event", 4, timedelta(seconds=30)),
        ("event", 1000, timedelta(minutes=10)),
        ("command", 7, timedelta(hours=1)),
        ("command", 29, timedelta(hours=1)),
        ("command", 30, None),
        ("command", 31, None),
    ],
)
async def test_a_row_holds_until_the_next_one(
    connection: asyncpg.Connection, work: str, attempts: int, wait: timedelta | None
) -> None:
    assert await connection.fetchval(WAIT, work, attempts) == wait


@pytest.mark.parametrize(("sentence", "edit"), REFUSALS.items(), ids=REFUSALS)
async def test_what_makes_no_sense_is_refused_with_a_sentence(
    connection: asyncpg.Connection, sentence: str, edit: str
) -> None:
    with pytest.raises(asyncpg.PostgresError, match=sentence) as refused:
        await connection.execute(edit)
    assert refused.value.hint


async def test_the_schedule_is_read_at_each_failure(mirror: Mirror) -> None:
    await mirror.accept(change("a"))
    waits = []
    for edit in (
        "select 1",
        "update mirror.retry_schedule set wait = '45 minutes' where work = 'event' and attempt = 2",
    ):
        await mirror.connection.execute(edit)
        await mirror.connection.execute("update mirror.webhook_events set available_at = now()")
        token = uuid4()
        (event,) = await inbox.claim(mirror.database, token, limit=1, lease=timedelta(minutes=1))
        await inbox.settle(mirror.database, token, [Settlement(event.id, "retry", "away")])
        waits += await mirror.events("available_at - updated_at")
    assert waits == [timedelta(milliseconds=200), timedelta(minutes=45)]


async def test_events_of_an_inactive_integration_wait_as_the_schedule_says(mirror: Mirror) -> None:
    await mirror.accept(customer_changed("1", 1))
    await mirror.connection.execute("update mirror.integrations set is_active = false")
    await mirror.connection.execute("update mirror.retry_schedule set wait = '7 seconds' where attempt = 1")
    assert (await mirror.drain().run()).retried == 1
    assert await mirror.events("available_at - updated_at") == [timedelta(seconds=7)]
