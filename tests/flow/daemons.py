"""Daemons in processes of their own, to be told to stop and to be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from sync.settings import Address
from tests.flow.serving import until, variables

WAITS_FOR_LOCK = """
    select count(*) from pg_stat_activity
    where wait_event_type = 'Lock' and datname = current_database() and pid <> pg_backend_pid()
"""


@asynccontextmanager
async def daemon(address: Address, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `mirror work`, a quick one; kill it in the end if it still runs."""
    environment = {
        **os.environ, **variables(address), "MIRROR_POLL_SECONDS": "0.2", "MIRROR_LEASE_SECONDS": "1", **settings
    }  # fmt: skip
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "sync", "work", env=environment)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def workers_waiting(connection: asyncpg.Connection, count: int = 1) -> None:
    """Wait until so many others wait for a lock in this database."""

    async def is_so() -> bool:
        await connection.execute("select pg_stat_clear_snapshot()")  # a transaction would see the same again and again
        return int(await connection.fetchval(WAITS_FOR_LOCK)) >= count

    await until(is_so)
