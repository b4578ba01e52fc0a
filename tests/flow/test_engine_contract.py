"""What every engine promises, whatever it is: its hooks in any order, any number of times, cut anywhere, applied by
several workers, end in the same tables; what is not for us is kept, and skipped.
"""  # fmt: skip

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sync.database import connect
from sync.drain import Counts
from sync.engines.base import Event
from sync.settings import Address
from tests.account import StripeMirror
from tests.contents import Contents
from tests.engines import SENDERS, happened
from tests.flow.test_convergence import differences, emptied, shuffled, slices, take
from tests.mirror import Mirror

MIRRORS = {"vendure": Mirror, "stripe": StripeMirror}


@pytest.fixture(params=MIRRORS)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def events(engine: str) -> list[Event]:
    """What happened in the engine, in that order."""
    return happened(engine)


@pytest.fixture
async def mirror(engine: str, address: Address, connection: asyncpg.Connection) -> AsyncIterator[Mirror]:
    """A mirror of that engine."""
    async with connect(address) as door:
        yield await MIRRORS[engine].over(door, connection)


@pytest.fixture
async def second(engine: str, address: Address, database: str, mirror: Mirror) -> AsyncIterator[Mirror]:
    """Another worker, with connections of its own."""
    connection = await asyncpg.connect(database)
    async with connect(address) as door:
        yield await MIRRORS[engine].over(door, connection)
    await connection.close()


@pytest.fixture
async def expected(mirror: Mirror, events: list[Event]) -> Contents:
    """What the tables say after the events one by one, as they happened."""
    return await take(mirror, [[event] for event in events], slice_size=1)


async def test_any_order_any_duplicates_any_slices_end_in_the_same_tables(
    mirror: Mirror, events: list[Event], expected: Contents
) -> None:
    loop = asyncio.get_running_loop()

    @given(
        order=st.randoms(use_true_random=True),
        again=st.lists(st.sampled_from(events), max_size=40),
        cuts=st.lists(st.integers(0, len(events)), max_size=12),
        slice_size=st.sampled_from([1, 7, 50, 500]),
    )
    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],  # a shuffle does not shrink
    )
    def holds(order: random.Random, again: list[Event], cuts: list[int], slice_size: int) -> None:
        told = events + again
        order.shuffle(told)
        taking = take(mirror, slices(told, cuts), slice_size)
        found = asyncio.run_coroutine_threadsafe(taking, loop).result()
        assert differences(found, expected) == []

    await asyncio.to_thread(holds)


async def test_each_event_alone_and_backwards(mirror: Mirror, events: list[Event], expected: Contents) -> None:
    found = await take(mirror, [[event] for event in reversed(events)], slice_size=1)
    assert differences(found, expected) == []


@pytest.mark.parametrize("seed", range(2))
async def test_two_workers_at_once_end_in_the_same_tables(
    mirror: Mirror, second: Mirror, events: list[Event], expected: Contents, seed: int
) -> None:
    await mirror.accept_read(shuffled(events, seed))
    workers = [worker.drain(slice_size=size) for worker, size in ((mirror, 5), (second, 8))]
    total = Counts()
    while await pending(mirror):
        for counts in await asyncio.gather(*(worker.run() for worker in workers)):
            total.add(counts)
    assert total.applied + total.skipped == len(events)
    assert total.dead == 0
    assert differences(await emptied(mirror), expected) == []


async def pending(mirror: Mirror) -> bool:
    return bool(await mirror.connection.fetchval("select count(*) from mirror.webhook_events where state = 'pending'"))


async def test_what_is_not_mirrored_is_kept_and_skipped_with_a_reason(mirror: Mirror, engine: str) -> None:
    sender = SENDERS[engine]
    await mirror.accept_read(sender.engine.read(sender.unknown))
    counts = await mirror.drain().run()
    assert (counts.skipped, counts.dead, counts.retried) == (1, 0, 0)
    (reason,) = await mirror.events("reason")
    assert "not mirrored" in reason
