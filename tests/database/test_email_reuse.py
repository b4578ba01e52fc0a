"""An e-mail address belongs to one active customer of a store, its newest registration, and no hook fails on it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync.columns import record_columns
from sync.engines.base import Context
from sync.engines.vendure.mapping import map_event
from tests.factory import Document, at, customer_changed, customer_deleted, payload
from tests.flow.daemons import workers_waiting
from tests.mirror import Mirror

EMAIL = "shared@example.com"
ACTIVE = "select source_id from public.customers where email = 'shared@example.com' and is_active order by 1"


def registered(customer_id: str, registration: float, read_at: float, email: str = EMAIL) -> Document:
    return customer_changed(customer_id, read_at, emailAddress=email, createdAt=at(registration))


def arguments(*events: Document) -> str:
    records = [r for e in events for r in map_event(e["type"], payload(e), Context(phone_region="LK"))]
    return json.dumps(record_columns(records), default=str)


async def upsert(connection: asyncpg.Connection, integration: Any, *events: Document) -> int:
    """Write customers in the connection's transaction."""
    query = "select mirror.upsert_customers($1, $2)"
    return int(await connection.fetchval(query, integration, arguments(*events)))


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


async def test_the_newest_registration_is_the_active_one_whatever_the_order(mirror: Mirror) -> None:
    for number, order in enumerate(itertools.permutations(range(3)), 1):
        email = f"shared{number}@example.com"
        registrations = enumerate((0, 5, 3), 1)
        events = [registered(f"{number}{n}", moment, 10, email=email) for n, moment in registrations]
        await mirror.take_in_turn(*(events[position] for position in order))
        active = "select source_id from public.customers where email = $1 and is_active"
        assert await mirror.column(active, email) == [f"{number}2"]


async def test_in_one_slice_as_well(mirror: Mirror) -> None:
    await mirror.take(registered("1", 0, 10), registered("2", 5, 10), registered("3", 3, 10))
    assert await mirror.column(ACTIVE) == ["2"]


async def test_the_older_one_is_active_again_when_the_newer_is_deleted(mirror: Mirror) -> None:
    await mirror.take(registered("1", 0, 10), registered("2", 5, 10))
    await mirror.take(customer_deleted("2", 20))
    assert await mirror.column(ACTIVE) == ["1"]


async def test_the_older_one_is_active_again_when_the_newer_changes_its_address(mirror: Mirror) -> None:
    await mirror.take(registered("1", 0, 10), registered("2", 5, 10))
    await mirror.take(registered("2", 5, 20, email="other@example.com"))
    assert await mirror.column(ACTIVE) == ["1"]
    assert (await mirror.customer("2"))["is_active"]


async def test_letters_in_upper_case_make_no_other_address(mirror: Mirror) -> None:
    await mirror.take(registered("1", 0, 10), registered("2", 5, 10, email="Shared@EXAMPLE.com"))
    assert await mirror.column(ACTIVE) == ["2"]


async def test_without_an_address_customers_do_not_displace_each_other(mirror: Mirror) -> None:
    await mirror.take(*(registered(str(n), n, 10, email="") for n in range(3)))
    assert await mirror.column("select is_active from public.customers") == [True] * 3


@pytest.mark.parametrize(("first", "second"), [(0, 5), (5, 0)])
async def test_two_connections_bring_the_same_address_at_once(
    mirror: Mirror, other: asyncpg.Connection, first: float, second: float
) -> None:
    async with mirror.connection.transaction():
        await upsert(mirror.connection, mirror.integration, registered("1", first, 10))
        meanwhile = asyncio.create_task(upsert(other, mirror.integration, registered("2", second, 10)))
        await workers_waiting(mirror.connection)
    assert await meanwhile == 1
    assert await mirror.column(ACTIVE) == ["1" if first > second else "2"]


async def test_one_takes_the_active_customer_away_while_the_other_brings_an_older_one(
    mirror: Mirror, other: asyncpg.Connection
) -> None:
    await mirror.take(registered("2", 5, 10))
    async with mirror.connection.transaction():
        await upsert(mirror.connection, mirror.integration, registered("2", 5, 20, email="other@example.com"))
        meanwhile = asyncio.create_task(upsert(other, mirror.integration, registered("1", 0, 10)))
        await workers_waiting(mirror.connection)
    assert await meanwhile == 1
    assert await mirror.column(ACTIVE) == ["1"]


async def test_two_states_of_a_new_customer_at_once_leave_nobody_without_their_address(
    mirror: Mirror, other: asyncpg.Connection
) -> None:
    await mirror.take(registered("1", 0, 10))
    newer = registered("2", 5, 30, email="other@example.com")
    async with mirror.connection.transaction():
        await upsert(mirror.connection, mirror.integration, registered("2", 5, 20))
        meanwhile = asyncio.create_task(upsert(other, mirror.integration, newer))
        await workers_waiting(mirror.connection)
    with pytest.raises(asyncpg.SerializationError, match="at the same moment"):
        await meanwhile
    await upsert(other, mirror.integration, newer)
    assert await mirror.column(ACTIVE) == ["1"]
