"""Group commit: what many callers get from one commit, and from one that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import msgspec
import pytest

from sync.database import Database, connect
from sync.engines.base import Event
from sync.errors import Reject, Retry
from sync.intake import Intake
from tests.flow.proxy import Proxy
from tests.flow.serving import until


@pytest.fixture
async def door(network: Proxy) -> AsyncIterator[Database]:
    async with connect(network.dsn, connections=2) as opened:
        yield opened


@pytest.fixture
async def integration(connection: asyncpg.Connection) -> UUID:
    found: UUID = await connection.fetchval("select id from mirror.integrations")
    return found


def event(event_id: str, payload: bytes = b"{}") -> Event:
    return Event(event_id, "order.changed", "1", msgspec.Raw(payload))


async def stored(connection: asyncpg.Connection) -> set[str]:
    return {row["event_id"] for row in await connection.fetch("select event_id from mirror.webhook_events")}


async def commits(connection: asyncpg.Connection) -> int:
    query = "select count(distinct xmin::text) from mirror.webhook_events"
    return int(await connection.fetchval(query))


async def test_each_caller_gets_its_own_result(door: Database, integration: UUID) -> None:
    intake = Intake(door)
    await intake.accept(integration, [event("old")])
    results = await asyncio.gather(
        intake.accept(integration, [event("a"), event("old")]),
        intake.accept(integration, [event("b"), event("c"), event("b")]),
        intake.accept(integration, [event("a")]),
        intake.accept(integration, []),
    )
    assert list(results) == [[True, False], [True, True, False], [False], []]


async def test_who_waits_together_is_committed_together(
    door: Database, integration: UUID, connection: asyncpg.Connection
) -> None:
    intake = Intake(door)
    await asyncio.gather(*(intake.accept(integration, [event(str(n))]) for n in range(300)))
    assert len(await stored(connection)) == 300
    assert await commits(connection) <= 2


@pytest.mark.parametrize(
    "poison",
    [b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", rb'{"a":"\u0000"}', rb'{"a":"\ud800"}', b"{", b'{"a":"\xff"}'],
    ids=["nested", "NUL", "half a surrogate", "no JSON", "no UTF-8"],
)
async def test_one_poisonous_request_fails_alone(
    door: Database, integration: UUID, connection: asyncpg.Connection, poison: bytes
) -> None:
    intake = Intake(door)
    results = await asyncio.gather(
        intake.accept(integration, [event("before")]),
        intake.accept(integration, [event("with it"), event("poison", poison)]),
        intake.accept(integration, [event("after")]),
        return_exceptions=True,
    )
    assert isinstance(results[1], Reject | UnicodeDecodeError)
    assert (results[0], results[2]) == ([True], [True])
    assert await stored(connection) == {"before", "after"}
    assert await intake.accept(integration, [event("next")]) == [True]


async def test_a_caller_that_goes_away_takes_nobody_with_it(
    door: Database, integration: UUID, connection: asyncpg.Connection
) -> None:
    intake = Intake(door)
    callers = [asyncio.create_task(intake.accept(integration, [event(str(n))])) for n in range(6)]
    await asyncio.sleep(0)
    callers[0].cancel()
    callers[3].cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [results[n] for n in (1, 2, 4, 5)] == [[True]] * 4
    assert {"1", "2", "4", "5"} <= await stored(connection)


async def test_all_are_told_to_come_again_when_the_database_is_away(
    door: Database, network: Proxy, integration: UUID, connection: asyncpg.Connection
) -> None:
    intake = Intake(door)
    network.cut()
    waiting = (intake.accept(integration, [event(str(n))]) for n in range(5))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {Retry}
    network.mend()
    assert await intake.accept(integration, [event("1")]) == [True]
    assert await stored(connection) == {"1"}


async def test_a_silent_database_is_not_waited_for(
    door: Database, network: Proxy, integration: UUID, connection: asyncpg.Connection
) -> None:
    intake = Intake(door, patience_seconds=0.3)
    await intake.accept(integration, [event("0")])

    async def is_taken() -> bool:
        try:
            return await intake.accept(integration, [event("1")]) == [False]
        except Retry:
            return False

    for _ in range(4):  # more often than there are connections to lose
        network.strand()
        with pytest.raises(Retry, match="did not"):
            await intake.accept(integration, [event("1")])
        await until(is_taken)
    assert await stored(connection) == {"0", "1"}


async def test_more_than_can_be_stored_in_time_is_sent_away(
    door: Database, integration: UUID, connection: asyncpg.Connection
) -> None:
    intake = Intake(door, waiting_bytes=1000)
    large = b'{"a":"' + b"x" * 600 + b'"}'
    results = await asyncio.gather(
        *(intake.accept(integration, [event(str(n), large)]) for n in range(5)), return_exceptions=True
    )
    assert results[0] == [True]
    assert {type(result) for result in results[1:]} == {Retry}
    assert await intake.accept(integration, [event("next", large)]) == [True]
    assert await stored(connection) == {"0", "next"}
