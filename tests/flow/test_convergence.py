"""The hooks of a real shop, in any order, any number of times, cut anywhere: the tables end the same.

And as the shop's Admin API said they should.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TypeVar

import pytest

from sync.compare import Comparison, compare
from sync.engines.base import Context, Event
from sync.engines.vendure import payloads
from sync.recording import load_recording
from tests.contents import LET_EMPTY, PROVIDERS, TABLES, Contents, read_contents
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

T = TypeVar("T")

RECORDING = load_recording()
HOOKS = [payloads.read(hook.body.encode()) for hook in RECORDING.hooks]
EVENTS = list({event.event_id: event for hook in reversed(HOOKS) for event in hook}.values())[::-1]
"""Each event as it came first. The plugin reads again before it sends again: a later copy has the same content and a
later time of reading, and which copy is stored is the first to arrive."""

ORDER = "from public.customer_orders_summary where source_id = $1"
BESIDE = (
    "mirror.webhook_events, mirror.outbox, mirror.sync_conflicts, mirror.delivery_stage_counts, "
    "mirror.delivery_durations, mirror.provider_payments, mirror.provider_refunds, public.lexoffice_sync_logs"
)
EMPTY = f"""
    {LET_EMPTY}
    truncate {", ".join(f"public.{table}" for table in TABLES)}, public.order_batch_assignments, {BESIDE} cascade;
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
    assert all(expected[table] for table in TABLES if table not in PROVIDERS)
    assert len(EVENTS) > 100


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
