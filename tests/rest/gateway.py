"""The Data API of Supabase projects, for tests: what the `supabase` client talks to, over real HTTP.

A gateway looks at the key, as Supabase's does, and passes a call on with the key's role. Behind it is PostgREST itself
where `MIRROR_TEST_POSTGREST` names the program (`task test:e2e`), else a stand-in for it. It serves any number of
databases, each as a project of its own, from a thread: whoever calls it may block.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import pytest
import uvicorn
from litestar import Litestar, Request, Response, post
from litestar.params import FromPath

from sync.settings import Project
from tests.postgres import TestServer
from tests.rest.postgrest import PostgREST
from tests.rest.stand_in import StandIn

PROGRAM_VARIABLE = "MIRROR_TEST_POSTGREST"
PROGRAM = os.environ.get(PROGRAM_VARIABLE)

SECRET_KEY = "sb_secret_of_the_tests"
PUBLISHABLE_KEY = "sb_publishable_of_the_tests"
ROLES = {SECRET_KEY: "service_role", PUBLISHABLE_KEY: "anon"}

DOOR = "rest" if PROGRAM else "postgres"
"""The door that tests go through which do not say; those of `task test:e2e` try all of them at the other one."""

both_doors = pytest.mark.parametrize("through", ["postgres", "rest"])
"""Runs a test twice: with its `address` (and so its `mirror` and its `api`) at either door."""

postgres_only = pytest.mark.parametrize("through", ["postgres"])
"""For a test of what the other door does not have: notifications, a pool of connections to Postgres."""


def goes_through_rest(item: pytest.Item) -> bool:
    """Tell whether a test asks the Data API, unless it says by which door it goes."""
    assert isinstance(item, pytest.Function)
    chosen = item.callspec.params.get("through") if hasattr(item, "callspec") else None
    return chosen != "postgres" and not {"through", "project", "gateway"}.isdisjoint(item.fixturenames)


class Backend(Protocol):
    """What answers `POST /rpc/<function>` for a database."""

    async def call(self, role: str, function: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer."""

    async def close(self) -> None: ...


class Gateway:
    """Serves projects on a port of its own."""

    def __init__(self, server: TestServer, port: int) -> None:
        self._server = server
        self._port = port
        self._backends: dict[str, Backend] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.app = Litestar([self._route()], logging_config=None, on_startup=[self._enter])

    @contextmanager
    def project(self, database: str) -> Iterator[Project]:
        """Serve a database while this lasts."""
        assert self._loop is not None
        with self._backend(self._server.authenticator(database)) as backend:
            self._backends[database] = backend
            yield Project(f"http://127.0.0.1:{self._port}/{database}", SECRET_KEY)
            asyncio.run_coroutine_threadsafe(self._backends.pop(database).close(), self._loop).result()

    def _route(self) -> Any:
        @post("/{database:str}/rest/v1/rpc/{function:str}", status_code=200, request_max_body_size=None)
        async def rpc(
            database: FromPath[str], function: FromPath[str], request: Request[Any, Any, Any]
        ) -> Response[bytes]:
            role = ROLES.get(request.headers.get("apikey", ""))
            if role is None or request.headers.get("authorization") != f"Bearer {request.headers['apikey']}":
                return _json(401, b'{"message": "Invalid API key", "hint": "Double check your API key."}')
            status, answer = await self._backends[database].call(role, function, await request.body())
            return _json(status, answer)

        return rpc

    def _backend(self, dsn: str) -> AbstractContextManager[Backend]:
        return PostgREST.running(PROGRAM, dsn) if PROGRAM else nullcontext(StandIn(dsn))

    async def _enter(self) -> None:
        self._loop = asyncio.get_running_loop()


def _json(status: int, body: bytes) -> Response[bytes]:
    return Response(body, status_code=status, media_type="application/json")


@contextmanager
def running_gateway(server: TestServer) -> Iterator[Gateway]:
    """Run a gateway in a thread. The server has been given Supabase's roles before."""
    server.let_authenticator_in()
    with socket.create_server(("127.0.0.1", 0)) as bound:
        gateway = Gateway(server, bound.getsockname()[1])
        serving = uvicorn.Server(uvicorn.Config(gateway.app, log_config=None, access_log=False, lifespan="on"))
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        try:
            yield gateway
        finally:
            serving.should_exit = True
            thread.join(30)
