"""The daemon keeps up by itself, and whoever kills it, or the database under it, loses nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from sync import embedded
from sync.daemon import Daemon
from sync.database import connect
from sync.migrate import migrate
from sync.settings import Address, load_settings
from tests.contents import read_contents
from tests.factory import Document, customer_changed, order_changed
from tests.flow.daemons import daemon, workers_waiting
from tests.flow.serving import until
from tests.mirror import Mirror
from tests.postgres import TestServer
from tests.rest.gateway import both_doors, postgres_only

LOCK = "lock table public.customers in exclusive mode"
HELD = """
    select count(*) from mirror.webhook_events
    where state = 'pending' and (claimed_by is not null or available_at > now())
"""
CUT_LISTENERS = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where query ilike 'listen%' and datname = current_database() and pid <> pg_backend_pid()
"""
NEVER = 3600.0


def shop() -> list[Document]:
    """Ten customers, each with an order."""
    return [
        event
        for n in range(1, 11)
        for event in (customer_changed(str(n), 1), order_changed(str(n), 1, customer={"id": str(n)}))
    ]


async def applied(mirror: Mirror) -> None:
    """Wait until the whole inbox is applied."""

    async def is_so() -> bool:
        return set(await mirror.events()) == {"applied"}

    await until(is_so)


@asynccontextmanager
async def running(mirror: Mirror, poll_seconds: float) -> AsyncIterator[None]:
    """Run a daemon in this process."""
    stop = asyncio.Event()
    settings = msgspec.structs.replace(load_settings(), poll_seconds=poll_seconds)
    task = asyncio.create_task(Daemon(mirror.database, settings).run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


@postgres_only
async def test_a_notification_wakes_it(mirror: Mirror) -> None:
    async with running(mirror, poll_seconds=NEVER):
        for number in range(3):
            await mirror.accept(customer_changed(str(number), 1))
            await applied(mirror)


@both_doors
async def test_events_of_which_no_notification_told_are_found_by_polling(mirror: Mirror) -> None:
    async with running(mirror, poll_seconds=0.1):
        await mirror.accept(customer_changed("1", 1))
        await applied(mirror)
        await mirror.connection.execute(
            "update mirror.webhook_events set state = 'pending', settled_at = null, available_at = now()"
        )
        await applied(mirror)


@postgres_only
async def test_it_catches_up_when_the_connection_that_listens_was_lost(mirror: Mirror) -> None:
    async with running(mirror, poll_seconds=NEVER):
        await mirror.accept(customer_changed("1", 1))
        await applied(mirror)
        assert await mirror.column(CUT_LISTENERS) == [True]
        await mirror.accept(customer_changed("2", 1))
        await applied(mirror)


@both_doors
async def test_killed_in_the_middle_of_a_slice_it_loses_and_doubles_nothing(mirror: Mirror, address: Address) -> None:
    await mirror.accept(*shop())
    async with mirror.connection.transaction():
        await mirror.connection.execute(LOCK)
        async with daemon(address) as first:
            await workers_waiting(mirror.connection)
            first.kill()
            await first.wait()
        async with daemon(address) as second:
            # The lease lapses; the other one takes over and waits as well, behind what the first one left running.
            await workers_waiting(mirror.connection, count=2)
            second.kill()
    await survived(mirror, address)


async def survived(mirror: Mirror, address: Address) -> None:
    """Let a daemon finish, and look whether all is there, once."""
    async with daemon(address):
        await applied(mirror)
    contents = await read_contents(mirror.connection)
    assert {table: len(rows) for table, rows in contents.items() if rows} == {
        "customers": 10,
        "customer_orders_summary": 10,
        "customer_order_items": 10,
        "order_delivery_status": 10,
        "order_delivery_status_events": 10,
        "payments": 10,
    }
    assert len(await mirror.events()) == 20


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_finishes_the_slice_in_hand(
    mirror: Mirror, address: Address, name: signal.Signals
) -> None:
    await mirror.accept(*shop())
    async with daemon(address, MIRROR_SLICE_SIZE="7", MIRROR_LEASE_SECONDS="60") as worker:
        async with mirror.connection.transaction():
            await mirror.connection.execute(LOCK)
            await workers_waiting(mirror.connection)
            worker.send_signal(name)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(worker.wait(), 0.3)
        assert await worker.wait() == 0
    assert sorted(await mirror.events()) == ["applied"] * 7 + ["pending"] * 13
    assert await mirror.connection.fetchval(HELD) == 0


async def test_idle_it_stops_at_once(mirror: Mirror, address: Address) -> None:
    await mirror.accept(customer_changed("1", 1))
    async with daemon(address, MIRROR_POLL_SECONDS="3600") as worker:
        await applied(mirror)
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 10) == 0


async def test_two_daemons_share_the_work(mirror: Mirror, address: Address) -> None:
    async with daemon(address, MIRROR_SLICE_SIZE="2"), daemon(address, MIRROR_SLICE_SIZE="3"):
        for event in shop():
            await mirror.accept(event)
        await applied(mirror)
    await survived(mirror, address)


async def test_it_goes_on_by_itself_when_the_database_was_restarted(tmp_path: Path) -> None:
    server = embedded.start(tmp_path / "postgres")
    await migrate(server.dsn, superuser_dsn=server.superuser_dsn)
    async with daemon(server.dsn) as worker:
        await bring(server.dsn, customer_changed("1", 1))
        server.stop()
        await asyncio.sleep(1)
        server = embedded.start(tmp_path / "postgres")
        try:
            await bring(server.dsn, customer_changed("2", 1))
            assert worker.returncode is None
        finally:
            worker.terminate()
            await worker.wait()
            server.stop()


async def bring(dsn: str, event: Document) -> None:
    """Store an event and wait until it is applied."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connect(dsn, connections=1) as door:
            mirror = await Mirror.over(door, connection)
            await mirror.accept(event)
            await applied(mirror)
    finally:
        await connection.close()


async def test_a_database_that_lets_nobody_in_for_now_is_waited_for(server: TestServer, migrated_template: str) -> None:
    name = f"{migrated_template}_later"
    stop = asyncio.Event()
    async with connect(server.owner(name)) as door:
        task = asyncio.create_task(Daemon(door, load_settings()).run(stop))
        with capture_logs() as logs:
            await until(in_log(logs, "daemon.not_listening"))
        assert not task.done()
        await asyncio.to_thread(server.run, f"create database {name} owner postgres template {migrated_template}")
        connection = await asyncpg.connect(server.owner(name))
        mirror = await Mirror.over(door, connection)
        await mirror.accept(*shop())
        await applied(mirror)
        await connection.close()
        stop.set()
        await task
    await asyncio.to_thread(server.drop, name)


def in_log(logs: list[MutableMapping[str, Any]], event: str) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return any(entry["event"] == event for entry in logs)

    return is_so
