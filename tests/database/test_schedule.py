"""Scheduled work is done when it is due, once, whoever asks; and what fails is told and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from structlog.testing import capture_logs

from sync.daemon import Daemon
from sync.database import Database, connect
from sync.schedule import run_due
from sync.settings import load_settings
from tests.flow.serving import until
from tests.postgres import with_database

JOBS = "select job from mirror.schedule order by job"
EXPIRED = """
    insert into public.otp_sessions (session_id, phone, purpose, otp_hash, expires_at)
    select 'session ' || n, '94771234567', 'tracking', '$2b$12$' || repeat('x', 53), now() + make_interval(mins => n)
    from unnest(array[-20, -1, 5]) as n
"""
FAILING = "insert into mirror.schedule (job, command, every) values ('broken', 'select 1 / 0', '1 hour')"
COUNTING = """
    create table public.runs (at timestamptz default clock_timestamp());
    insert into mirror.schedule (job, command, every)
    values ('counted', 'insert into public.runs default values', '1 hour')
"""


@pytest.fixture
async def door(database: str) -> AsyncIterator[Database]:
    async with connect(database) as opened:
        yield opened


async def jobs(connection: asyncpg.Connection, query: str = JOBS) -> list[str]:
    return [row[0] for row in await connection.fetch(query)]


async def test_what_is_due_is_done_and_then_it_is_not_due(door: Database, connection: asyncpg.Connection) -> None:
    assert await run_due(door) == await jobs(connection)
    assert {"cleanup_expired_otps", "refresh_delivery_norms"} <= set(await jobs(connection))
    assert await run_due(door) == []


async def test_after_its_time_a_job_is_due_again(door: Database, connection: asyncpg.Connection) -> None:
    await run_due(door)
    await connection.execute("update mirror.schedule set last_run_at = now() - interval '11 minutes'")
    due = "select job from mirror.schedule where every <= interval '11 minutes' order by job"
    assert await run_due(door) == await jobs(connection, due) != []


async def test_expired_otp_sessions_are_deleted_and_no_others(door: Database, connection: asyncpg.Connection) -> None:
    await connection.execute(EXPIRED)
    await run_due(door)
    left = await connection.fetch("select session_id from public.otp_sessions")
    assert [row["session_id"] for row in left] == ["session 5"]
    await connection.execute("update public.otp_sessions set expires_at = now() - interval '1 second'")
    assert await connection.fetchval("select public.cleanup_expired_otps()") == 1


async def test_of_many_at_once_one_does_the_work(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute(COUNTING)
    async with connect(database) as one, connect(database) as other:
        done = await asyncio.gather(*(run_due(door) for door in (one, other) for _ in range(4)))
    assert sorted(job for each in done for job in each) == await jobs(connection)
    assert await connection.fetchval("select count(*) from public.runs") == 1


async def test_a_job_in_another_instance_s_hand_is_left_to_it(door: Database, connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute("select from mirror.schedule where job = 'cleanup_expired_otps' for update")
        assert await run_due(door) == [job for job in await jobs(connection) if job != "cleanup_expired_otps"]
    assert await run_due(door) == ["cleanup_expired_otps"]


async def test_a_failing_job_is_logged_and_recorded_and_holds_up_no_other(
    door: Database, connection: asyncpg.Connection
) -> None:
    await connection.execute(FAILING)
    with capture_logs() as logs:
        assert await run_due(door) == await jobs(connection)
    (failed,) = [entry for entry in logs if entry["event"] == "schedule.failed"]
    assert (failed["job"], failed["reason"], failed["log_level"]) == ("broken", "division by zero", "error")
    recorded = "select job || ': ' || last_error from mirror.schedule where last_error is not null"
    assert await jobs(connection, recorded) == ["broken: division by zero"]


async def test_a_job_that_works_again_has_no_error_any_more(door: Database, connection: asyncpg.Connection) -> None:
    await connection.execute(FAILING)
    await run_due(door)
    await connection.execute("update mirror.schedule set command = 'select 1', last_run_at = null where job = 'broken'")
    await run_due(door)
    assert await connection.fetchval("select last_error from mirror.schedule where job = 'broken'") is None


async def test_a_failed_job_undoes_only_itself(door: Database, connection: asyncpg.Connection) -> None:
    await connection.execute(COUNTING)
    await connection.execute("update mirror.schedule set command = command || '; select 1 / 0' where job = 'counted'")
    await run_due(door)
    assert await connection.fetchval("select count(*) from public.runs") == 0
    assert await jobs(connection, "select job from mirror.schedule where last_error is not null") == ["counted"]
    assert await jobs(connection, "select job from mirror.schedule where last_run_at is null") == []


async def test_without_a_database_it_is_logged_and_asked_again_later(database: str) -> None:
    async with connect(with_database(database, "gone")) as door:
        with capture_logs() as logs:
            assert await run_due(door) == []
    assert [entry["event"] for entry in logs] == ["schedule.not_run"]


async def test_daemons_side_by_side_do_it_once(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute(COUNTING)

    async def is_done() -> bool:
        return bool(await connection.fetchval("select bool_and(last_run_at is not null) from mirror.schedule"))

    stop = asyncio.Event()
    async with connect(database) as one, connect(database) as other:
        running = [asyncio.create_task(Daemon(door, load_settings()).run(stop)) for door in (one, other)]
        await until(is_done)
        stop.set()
        await asyncio.gather(*running)
    assert await connection.fetchval("select count(*) from public.runs") == 1
