"""The API for tests: the real server on a real socket, in this process or, to be killed, in one of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from api.server import serve
from sync.settings import Address, load_settings
from tests.hooks import SECRET, signed

HOOKS = "/hooks/vendure"
SECRETS_VARIABLE = "VENDURE_HOOK_SECRETS"


@asynccontextmanager
async def serving(address: Address, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run the API in this process; give a client of it."""
    where = {"database_url": address} if isinstance(address, str) else {"project": address}
    chosen = msgspec.structs.replace(load_settings(), port=0, **where, **settings)
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(chosen, stop=stop, listening=listening.set_result))
    try:
        server.add_done_callback(lambda _: listening.cancel())
        async with httpx.AsyncClient(base_url=await listening, timeout=30) as client:
            yield client
    finally:
        stop.set()
        await server


def variables(address: Address) -> dict[str, str]:
    """Return what the environment of a process says of a database."""
    if isinstance(address, str):
        return {"DATABASE_URL": address}
    return {"SUPABASE_URL": address.url, "SUPABASE_SECRET_KEY": address.secret_key}


@asynccontextmanager
async def process(
    address: Address, *, log: int | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """Run the API in a process of its own; give it, with a client of it. `log` is a file's descriptor for its log."""
    environment = {**os.environ, **variables(address), "MIRROR_PORT": "0", SECRETS_VARIABLE: SECRET}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api", env=environment, stdout=asyncio.subprocess.PIPE, stderr=log
    )
    assert child.stdout is not None
    try:
        url = (await child.stdout.readline()).decode().split()[-1]
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            yield child, client
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def post(client: httpx.AsyncClient, body: bytes, **how: Any) -> httpx.Response:
    """Send a signed hook."""
    return await client.post(HOOKS, content=body, headers=signed(body, **how))


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.05)
