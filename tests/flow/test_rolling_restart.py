"""The API is replaced while hooks arrive: each is answered, none is turned away, and each is in the inbox once."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import msgspec
import psutil
import pytest
from litestar import Litestar, get
from litestar.datastructures import State
from litestar.response import Stream

from api.server import serve, serve_app
from api.sockets import HANDED_OVER, address_of, listening_socket
from sync.settings import SettingsError, load_settings
from tests.flow.daemons import workers_waiting
from tests.flow.serving import HOOKS, SECRETS_VARIABLE, until, variables
from tests.hooks import SECRET, body_of, change, signed
from tests.raw_http import Line, request

CLIENTS = 8
PAUSE_SECONDS = 0.01
"""Of each client between two hooks, so that they leave the processors to those who start and end."""

BOUND_SECONDS = 20


class Shop:
    """Sends hooks all the time over connections that stay open; any that is not answered 202 is an error."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._numbers = itertools.count()
        self._is_over = False
        self.answered: list[str] = []
        self.connections = 0

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        clients = [asyncio.create_task(self._send()) for _ in range(CLIENTS)]
        try:
            await self.goes_on()
            yield
            await self.goes_on()
        finally:
            self._is_over = True
            await asyncio.gather(*clients)

    async def goes_on(self, count: int = 100) -> None:
        """Wait until so many more hooks were answered."""
        before = len(self.answered)

        async def are_answered() -> bool:
            return self._is_over or len(self.answered) >= before + count

        await until(are_answered)

    async def _send(self) -> None:
        line = Line(self._address)
        try:
            while not self._is_over:
                event = f"e{next(self._numbers)}"
                assert (await line.send(hook(event))).status == 202
                self.answered.append(event)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._is_over = True
            self.connections += line.opened
            line.close()


def hook(*events: str) -> bytes:
    body = body_of(*(change(event) for event in events))
    return request("POST", HOOKS, signed(body, message_id=events[0]), body)


async def assert_stored_once(connection: asyncpg.Connection, shop: Shop) -> None:
    rows = await connection.fetch("select event_id from mirror.webhook_events")
    assert len(shop.answered) > CLIENTS
    assert sorted(row["event_id"] for row in rows) == sorted(shop.answered)


@asynccontextmanager
async def running(database: str, *arguments: str, **how: Any) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run `python -m api` with arguments; give it, with its address."""
    environment = {**os.environ, **variables(database), "MIRROR_PORT": "0", SECRETS_VARIABLE: SECRET}
    environment.update(how.pop("environment", {}))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api", *arguments, env=environment, stdout=asyncio.subprocess.PIPE, **how
    )
    assert child.stdout is not None
    try:
        yield child, (await child.stdout.readline()).decode().split()[-1]
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def refused(address: str) -> None:
    """Wait until nobody is let in any more."""

    async def is_so() -> bool:
        line = Line(address)
        try:
            return (await line.send(request("GET", "/health/live", {}))).status != 200
        except ConnectionError:  # refused; or reset, if it still got into the queue of a socket that nobody else holds
            return True
        finally:
            line.close()

    await until(is_so)


@asynccontextmanager
async def serving_until_told(database: str) -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Task[None]]]:
    """Run the API in this process; give its address, how to stop it, and itself."""
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    settings = msgspec.structs.replace(load_settings(), port=0, database_url=database)
    server = asyncio.create_task(serve(settings, stop=stop, listening=listening.set_result))
    try:
        yield await listening, stop, server
    finally:
        stop.set()
        await server


async def ended(child: asyncio.subprocess.Process) -> int:
    """Tell it to end, and return its exit code."""
    child.terminate()
    return await asyncio.wait_for(child.wait(), BOUND_SECONDS)


async def test_workers_are_replaced_one_after_the_other_and_no_request_is_lost(
    database: str, connection: asyncpg.Connection
) -> None:
    async with running(database, "--workers=2") as (supervisor, address):

        def workers() -> set[int]:
            return {child.pid for child in psutil.Process(supervisor.pid).children()}

        shop = Shop(address)
        old = workers()

        async def are_replaced() -> bool:
            return len(workers()) == 2 and not workers() & old

        async with shop.sending():
            supervisor.send_signal(signal.SIGHUP)
            await until(are_replaced, seconds=60)
        assert shop.connections > CLIENTS, "nobody had to come again: was anything replaced?"
        assert await ended(supervisor) == 0
    await assert_stored_once(connection, shop)


async def test_a_socket_that_is_handed_over_is_never_closed_between_two_processes(
    database: str, connection: asyncpg.Connection
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        how: dict[str, Any] = {"pass_fds": [held.fileno()], "environment": {HANDED_OVER: str(held.fileno())}}
        shop = Shop(f"http://127.0.0.1:{held.getsockname()[1]}")
        async with AsyncExitStack() as processes:

            async def another() -> asyncio.subprocess.Process:
                child, _ = await processes.enter_async_context(running(database, **how))
                return child

            first = await another()
            async with shop.sending():
                second = await another()
                assert await ended(first) == 0
                await shop.goes_on()
                assert await ended(second) == 0, "and those who come now wait in the socket's queue"
                await another()
    await assert_stored_once(connection, shop)


async def test_systemd_s_socket_is_taken_only_by_whom_it_is_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    with socket.create_server(("127.0.0.1", 0)) as held:
        monkeypatch.setattr("api.sockets.FIRST_OF_SYSTEMD", os.dup(held.fileno()))
        monkeypatch.setenv("LISTEN_PID", "1")
        with listening_socket("127.0.0.1", 0) as another:
            assert address_of(another) != address_of(held)
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        with listening_socket("127.0.0.1", 0) as same:
            assert address_of(same) == address_of(held)
        monkeypatch.setenv("LISTEN_FDS", "2")
        with pytest.raises(SettingsError, match="listens on one"):
            listening_socket("127.0.0.1", 0)


async def test_told_to_stop_it_answers_over_open_connections_and_closes_them_with_an_answer(
    database: str, secrets: None, connection: asyncpg.Connection
) -> None:
    async with serving_until_told(database) as (address, stop, server):
        used, unused, waiting = Line(address), Line(address), Line(address)
        assert [(await line.send(hook(name))).closes for line, name in ((used, "1"), (unused, "2"))] == [False, False]
        async with connection.transaction():
            await connection.execute("lock table mirror.webhook_events in exclusive mode")
            held_up = asyncio.create_task(waiting.send(hook("3")))
            await workers_waiting(connection)
            stop.set()
            await refused(address)
            last = asyncio.create_task(used.send(hook("4")))
            await asyncio.sleep(0.1)
            assert not held_up.done()
        answers = await asyncio.gather(held_up, last)
        assert [(answer.status, answer.closes) for answer in answers] == [(202, True), (202, True)]
        await asyncio.wait_for(server, BOUND_SECONDS)  # though one connection was left open
        unused.close()
    assert await connection.fetchval("select count(*) from mirror.webhook_events") == 4


async def test_a_stream_that_looks_ends_with_an_end_and_what_never_ends_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.server.LINGER_SECONDS", 0.3)
    monkeypatch.setattr("api.server.GRACE_SECONDS", 0.3)
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @get("/polite")
    async def polite(state: State) -> Stream:
        async def words() -> AsyncIterator[bytes]:
            yield b"begin"
            await state.stopping.wait()
            yield b"end"

        return Stream(words())

    @get("/endless")
    async def endless() -> None:
        await asyncio.Event().wait()

    app = Litestar([polite, endless], state=State({"max_connections": 10}), logging_config=None)
    serving = asyncio.create_task(serve_app(app, "127.0.0.1", 0, stop=stop, listening=listening.set_result))
    async with httpx.AsyncClient(base_url=await listening) as client:
        asking = asyncio.create_task(client.get("/endless"))
        async with client.stream("GET", "/polite") as stream:
            words = stream.aiter_raw()
            assert await anext(words) == b"begin"
            stop.set()
            assert [word async for word in words] == [b"end"]
        await asyncio.wait_for(serving, 5)
        assert (await asking).status_code == 500
