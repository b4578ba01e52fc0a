"""The second migration, on a database that a real shop's hooks had filled under the first schema: nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from sync.compare import compare
from sync.database import connect
from sync.engines.base import Context
from sync.engines.vendure import payloads
from sync.migrate import MigrationError, migrate, migrations, pending, supabase_folder
from sync.recording import load_recording
from sync.records import DELIVERY_STAGES
from tests.mirror import Mirror
from tests.postgres import TestServer, apply_platform

FIRST, SECOND, *LATER = migrations(supabase_folder())
NEW = [migration.title for migration in (SECOND, *LATER)]
RECORDING = load_recording()
STAGES: list[str] = [*DELIVERY_STAGES]

TABLES = """
    select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'mirror') order by 1
"""
CUSTOMER_TOTALS = "select id, total_orders, total_spent, spent_by_currency, last_order_date from public.customers"
RECOUNTED = """
    select c.id, count(o.id)::integer as total_orders,
        coalesce(
            sum(o.total_with_tax - greatest(o.total_refunded - greatest(o.total_paid - o.total_with_tax, 0), 0))
            filter (where o.currency = s.currency), 0) as total_spent,
        coalesce(
            (select jsonb_object_agg(b.currency, b.spent) from (
                select p.currency,
                    sum(p.total_with_tax - greatest(p.total_refunded - greatest(p.total_paid - p.total_with_tax, 0), 0))
                    as spent
                from public.customer_orders_summary p
                where p.customer_id = c.id and p.order_code is not null
                    and p.cancelled_at is null and p.deleted_at is null
                group by p.currency) b),
            '{}') as spent_by_currency,
        max(o.order_date) as last_order_date
    from public.customers c
    join public.stores s on s.id = c.store_id
    left join public.customer_orders_summary o
        on o.customer_id = c.id and o.order_code is not null and o.cancelled_at is null and o.deleted_at is null
    group by c.id, s.currency
"""
STAGE_COUNTS = (
    "select stage::text, sum(orders)::bigint from mirror.delivery_stage_counts group by 1 having sum(orders) <> 0"
)
STAGES_RECOUNTED = "select stage::text, count(*) from public.order_delivery_status where not is_cancelled group by 1"
DURATIONS = """
    select day, from_stage::text, stage::text, hours, sum(orders)::bigint
    from mirror.delivery_durations group by 1, 2, 3, 4 having sum(orders) <> 0
"""
CHANGES = """
    select e.order_summary_id, e.stage::text, e.updated_at
    from public.order_delivery_status_events e join public.order_delivery_status s using (order_summary_id)
    where not s.is_cancelled and e.from_stage is distinct from e.stage
    order by e.updated_at, e.id
"""


@pytest.fixture(scope="module")
def filled_template(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database with the first schema and the recorded shop."""
    name = server.create()
    apply_platform(server, name)
    project = tmp_path_factory.mktemp("first")
    (project / "migrations").mkdir()
    shutil.copy(FIRST.file, project / "migrations")
    asyncio.run(fill(server.owner(name), project))
    yield name
    server.drop(name)


async def fill(dsn: str, project: Path) -> None:
    """Migrate to a project's schema and apply the recorded hooks there."""
    await migrate(dsn, folder=project)
    connection = await asyncpg.connect(dsn)
    async with connect(dsn) as door:
        mirror = await Mirror.over(door, connection)
        for hook in RECORDING.hooks:
            await mirror.accept_read(payloads.read(hook.body.encode()))
        await mirror.drain().run()
    await connection.close()


@pytest.fixture
def filled(server: TestServer, filled_template: str) -> Iterator[str]:
    name = server.create(template=filled_template)
    yield server.owner(name)
    server.drop(name)


@pytest.fixture
async def opened(filled: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(filled)
    yield connection
    await connection.close()


async def contents(connection: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    """Return every row of every table that is there, by name."""
    tables = [row[0] for row in await connection.fetch(TABLES)]
    return {table: await connection.fetch(f"select * from {table} as t order by t::text") for table in tables}


def only(row: asyncpg.Record, columns: Any) -> dict[str, Any]:
    return {column: row[column] for column in columns}


async def rows(connection: asyncpg.Connection, query: str) -> list[tuple[object, ...]]:
    """Return a query's rows, sorted; there must be some."""
    found = sorted((tuple(row) for row in await connection.fetch(query)), key=str)
    assert found
    return found


def durations(changes: list[asyncpg.Record]) -> list[tuple[object, ...]]:
    """Count the steps between stages by playing each order's history: what it went back from, it has not reached."""
    reached: dict[UUID, dict[str, datetime]] = defaultdict(dict)
    for order, stage, at in changes:
        kept = {before: time for before, time in reached[order].items() if STAGES.index(before) < STAGES.index(stage)}
        reached[order] = {**kept, stage: at}
    steps = Counter(
        (at.date(), before, stage, max(0, int((at - since).total_seconds() // 3600)))
        for times in reached.values()
        for (before, since), (stage, at) in pairwise(times.items())
    )
    return sorted(((*step, count) for step, count in steps.items()), key=str)


async def test_every_column_of_every_row_is_what_it_was(filled: str, opened: asyncpg.Connection) -> None:
    before = await contents(opened)
    assert all(
        before[f"public.{table}"] for table in ("customers", "customer_order_items", "order_delivery_status_events")
    )
    assert (await migrate(filled)).migrations == NEW
    await opened.reload_schema_state()
    for table, rows in before.items():
        after = await opened.fetch(f"select * from {table} order by id")
        assert [only(row, rows[0].keys()) for row in after] == [dict(row) for row in rows], table


async def test_statistics_and_roll_ups_are_as_if_they_had_always_been_kept(
    filled: str, opened: asyncpg.Connection
) -> None:
    await migrate(filled)
    assert await rows(opened, CUSTOMER_TOTALS) == await rows(opened, RECOUNTED)
    assert await opened.fetchval("select sum(total_orders) from public.customers") > 0
    assert await rows(opened, STAGE_COUNTS) == await rows(opened, STAGES_RECOUNTED)
    assert await rows(opened, DURATIONS) == durations(await opened.fetch(CHANGES))


async def test_the_history_is_kept_and_says_how_each_change_came(filled: str, opened: asyncpg.Connection) -> None:
    events = "select count(*) from public.order_delivery_status_events"
    before = await opened.fetchval(events)
    await migrate(filled)
    assert await opened.fetchval(f"{events} where actor = 'engine:vendure'") == before
    times = """
        select count(*) from public.order_delivery_status s
        join public.customer_orders_summary o on o.id = s.order_summary_id
        where s.confirmed_at <> o.order_date or s.stage_since is null
            or s.is_cancelled <> (o.cancelled_at is not null or o.deleted_at is not null)
    """
    assert await opened.fetchval(times) == 0


async def test_afterwards_the_mirror_still_equals_the_engine(filled: str, opened: asyncpg.Connection) -> None:
    await migrate(filled)
    async with connect(filled) as door:
        mirror = await Mirror.over(door, opened)
        compared = await compare(door, mirror.integration, RECORDING.documents, Context(phone_region="LK"))
    # The first schema had no place for an order's history of states.
    assert [found for found in compared.differences if found.fields != ["events"]] == []


async def test_hooks_that_come_again_afterwards_change_nothing(filled: str, opened: asyncpg.Connection) -> None:
    await migrate(filled)
    before = await contents(opened)
    async with connect(filled) as door:
        mirror = await Mirror.over(door, opened)
        await opened.execute("delete from mirror.webhook_events")
        for hook in RECORDING.hooks:
            await mirror.accept_read(payloads.read(hook.body.encode()))
        await mirror.drain().run()
    after = await contents(opened)
    assert [table for table in before if after[table] != before[table]] == ["mirror.webhook_events"]


async def test_when_it_fails_at_its_end_the_database_is_as_it_was(
    filled: str, opened: asyncpg.Connection, tmp_path: Path
) -> None:
    (tmp_path / "migrations").mkdir()
    for migration in (FIRST, SECOND):
        shutil.copy(migration.file, tmp_path / "migrations")
    with (tmp_path / "migrations" / SECOND.file.name).open("a") as file:
        file.write("\nselect missing;\n")
    before = await contents(opened)
    with pytest.raises(MigrationError, match=r'column "missing" does not exist(?s:.*)The statement:\nselect missing'):
        await migrate(filled, folder=tmp_path)
    assert await contents(opened) == before
    assert await pending(filled) == NEW


async def test_two_at_once_apply_it_once(filled: str) -> None:
    results = await asyncio.gather(*(migrate(filled) for _ in range(3)))
    assert sorted(title for result in results for title in result.migrations) == NEW
