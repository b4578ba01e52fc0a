"""The hooks of a real shop, in any order, any number of times, cut anywhere: the tables end the same.

And as the shop's Admin API said they should.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sync.compare import Comparison, compare
from sync.database import connect
from sync.drain import Counts
from sync.engines.base import Context, Event
from sync.engines.vendure import payloads
from sync.recording import load_recording
from sync.settings import Address
from tests.contents import PROVIDERS, TABLES, Contents, read_contents
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

T = TypeVar("T")

RECORDING = load_recording()
HOOKS = [payloads.read(hook.body.encode()) for hook in RECORDING.hooks]
EVENTS = list({event.event_id: event for hook in reversed(HOOKS) for event in hook}.values())[::-1]
"""Each event as it came first. The plugin reads again before it sends again: a later copy has the same content and a
later time of reading, and which copy is stored is the first to arrive."""

ORDER = "from public.customer_orders_summary where source_id = $1"
HISTORY = "public.order_delivery_status_events"
BESIDE = (
    "mirror.webhook_events, mirror.outbox, mirror.sync_conflicts, mirror.delivery_stage_counts, "
    "mirror.delivery_durations"
)
EMPTY = f"""
    alter table {HISTORY} disable trigger user;
    truncate {", ".join(f"public.{table}" for table in TABLES)}, public.order_batch_assignments, {BESIDE} cascade;
    alter table {HISTORY} enable trigger user;
"""


@pytest.fixture
async def expected(mirror: Mirror) -> Contents:
    """What the tables say after the hooks as the shop sent them, one by one."""
    for hook in HOOKS:
        await mirror.accept_read(hook)
        await mirror.drain().run()
    return await emptied(mirror)


async def emptied(mirror: Mirror) -> Contents:
    """Return what the tables say, and empty them."""
    contents = await read_contents(mirror.connection)
    await mirror.connection.execute(EMPTY)
    return contents


def shuffled(things: Sequence[T], seed: int) -> list[T]:
    return random.Random(seed).sample(things, len(things))  # noqa: S311 - a shuffle, no secret


def slices(events: Sequence[Event], cuts: Sequence[int]) -> list[list[Event]]:
    bounds = [0, *sorted(cuts), len(events)]
    return [list(events[start:end]) for start, end in itertools.pairwise(bounds)]


def differences(found: Contents, expected: Contents) -> list[str]:
    """Return the rows that are not in both: short to read when a test fails."""
    return [
        f"{sign} {table} {row}"
        for table, rows in expected.items()
        for sign, some, others in (("missing:", rows, found[table]), ("too much:", found[table], rows))
        for row in some
        if row not in others
    ]


async def test_the_recording_is_worth_the_name(mirror: Mirror, expected: Contents) -> None:
    assert all(expected[table] for table in TABLES if table not in PROVIDERS | {"order_events"})
    assert len(EVENTS) > 100


async def test_any_order_any_duplicates_any_slices_end_in_the_same_tables(mirror: Mirror, expected: Contents) -> None:
    loop = asyncio.get_running_loop()

    @given(
        order=st.randoms(use_true_random=True),
        again=st.lists(st.sampled_from(EVENTS), max_size=40),
        cuts=st.lists(st.integers(0, len(EVENTS)), max_size=12),
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
        events = EVENTS + again
        order.shuffle(events)
        taking = take(mirror, slices(events, cuts), slice_size)
        found = asyncio.run_coroutine_threadsafe(taking, loop).result()
        assert differences(found, expected) == []

    await asyncio.to_thread(holds)


async def take(mirror: Mirror, parts: list[list[Event]], slice_size: int) -> Contents:
    """Take events as hooks bring them, delivered again and again, and return what the tables say in the end."""
    for part in parts:
        await mirror.accept_read(part)
        await mirror.drain(slice_size=slice_size).run()
    return await emptied(mirror)


def without_versions(contents: Contents) -> Contents:
    return {
        table: [{name: value for name, value in row.items() if name != "source_version"} for row in rows]
        for table, rows in contents.items()
    }


async def test_whole_hooks_with_all_later_copies_end_in_the_same_content(mirror: Mirror, expected: Contents) -> None:
    for seed in range(3):
        found = await take(mirror, shuffled(HOOKS + HOOKS, seed), slice_size=50)
        assert differences(without_versions(found), without_versions(expected)) == []


@pytest.mark.parametrize("order", ["as they came", "backwards"])
async def test_each_event_alone_in_order_and_backwards(mirror: Mirror, expected: Contents, order: str) -> None:
    events = EVENTS if order == "as they came" else EVENTS[::-1]
    found = await take(mirror, [[event] for event in events], slice_size=1)
    assert differences(found, expected) == []


@pytest.fixture
async def second(address: Address, database: str) -> AsyncIterator[Mirror]:
    """Another worker, with connections of its own."""
    connection = await asyncpg.connect(database)
    async with connect(address) as door:
        yield await Mirror.over(door, connection)
    await connection.close()


@pytest.mark.parametrize("seed", range(3))
async def test_two_workers_at_once_end_in_the_same_tables(
    mirror: Mirror, second: Mirror, expected: Contents, seed: int
) -> None:
    await mirror.accept_read(shuffled(EVENTS, seed))
    workers = [worker.drain(slice_size=size) for worker, size in ((mirror, 5), (second, 8))]
    total = Counts()
    while await pending(mirror):
        for counts in await asyncio.gather(*(worker.run() for worker in workers)):
            total.add(counts)
    assert total.applied + total.skipped == len(EVENTS)
    assert total.dead == 0
    assert differences(await emptied(mirror), expected) == []


async def pending(mirror: Mirror) -> bool:
    return bool(await mirror.connection.fetchval("select count(*) from mirror.webhook_events where state = 'pending'"))


async def compared(mirror: Mirror) -> Comparison:
    context = Context(phone_region="LK")
    return await compare(mirror.database, mirror.integration, RECORDING.documents, context)


@both_doors
async def test_the_tables_equal_what_the_admin_api_said(mirror: Mirror) -> None:
    await mirror.accept_read(shuffled(EVENTS, 4))
    await mirror.drain(slice_size=30).run()
    comparison = await compared(mirror)
    assert comparison.differences == []
    assert comparison.entities > 60


@both_doors
async def test_a_comparison_finds_every_kind_of_difference(mirror: Mirror) -> None:
    await mirror.accept_read(EVENTS)
    await mirror.drain().run()
    documents = RECORDING.documents
    customer, order = documents.customers[0].id, documents.orders[0].id
    gone, other = documents.deleted_customers[0], documents.orders[1].id
    for statement, source_id in (
        ("update public.customers set first_name = 'X' where source_id = $1", customer),
        ("update public.customers set deleted_at = null where source_id = $1", gone),
        (f"delete from public.customer_order_items where order_summary_id in (select id {ORDER})", order),
        ("update public.customer_orders_summary set source_id = 'another' where source_id = $1", other),
    ):
        await mirror.connection.execute(statement, source_id)
    found = [(d.entity, d.source_id, d.fields) for d in (await compared(mirror)).differences]
    assert found == [
        ("customer", customer, ["first_name"]),
        ("order", order, ["items"]),
        ("order", other, ["missing"]),
        ("customer", gone, ["not deleted"]),
    ]
