"""Fixtures for every test: a real Postgres, and a database of its own for each test that asks for one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import settings

from sync.database import connect
from sync.migrate import migrate
from sync.settings import Address, Project
from tests.mirror import Mirror
from tests.postgres import FORGETFUL, TestServer, apply_platform, quick_folder, running_server
from tests.rest.gateway import DOOR, Gateway, goes_through_rest, running_gateway

settings.register_profile("thorough", max_examples=2000, derandomize=False)
"""For `pytest --hypothesis-profile=thorough`: twenty times as many examples, and others each time."""
settings.load_profile("ci")  # Hypothesis' own: the same examples each time, here as in CI


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: a shell has what it runs in the background ignore it."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With PostgREST itself, run what goes through it."""
    if DOOR == "rest":
        config.hook.pytest_deselected(items=[item for item in items if not goes_through_rest(item)])
        items[:] = filter(goes_through_rest, items)


@pytest.fixture(scope="session")
def server() -> Iterator[TestServer]:
    """The run's Postgres server."""
    with quick_folder() as folder, running_server(folder) as started:
        started.run(*FORGETFUL)
        yield started


@pytest.fixture(scope="session")
def migrated_template(server: TestServer) -> Iterator[str]:
    """The name of a database with all migrations, to clone."""
    name = server.create()
    asyncio.run(migrate(server.owner(name), superuser_dsn=server.superuser(name)))
    yield name
    server.drop(name)


@pytest.fixture
def database(server: TestServer, migrated_template: str) -> Iterator[str]:
    """A database of the test's own with all migrations applied: its DSN, as role `postgres`."""
    name = server.create(template=migrated_template)
    yield server.owner(name)
    server.drop(name)


@pytest.fixture
def bare_database(server: TestServer) -> Iterator[str]:
    """A database with nothing in it at all: its name."""
    name = server.create()
    yield name
    server.drop(name)


@pytest.fixture
def platform_database(server: TestServer, bare_database: str) -> str:
    """A database as a new Supabase project has it, without our schema: its DSN, as role `postgres`."""
    apply_platform(server, bare_database)
    return server.owner(bare_database)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to `database`, as role `postgres`."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def gateway(server: TestServer, migrated_template: str) -> Iterator[Gateway]:
    """The way to databases over HTTP."""
    with running_gateway(server) as started:
        yield started


@pytest.fixture
def project(gateway: Gateway, database: str) -> Iterator[Project]:
    """`database` as a Supabase project that is reached through its Data API."""
    with gateway.project(urlsplit(database).path.removeprefix("/")) as served:
        yield served


@pytest.fixture
def through() -> str:
    """Which door a test goes through; those marked `both_doors` go through the other one, too."""
    return DOOR


@pytest.fixture
def address(through: str, request: pytest.FixtureRequest) -> Address:
    """`database`, by the door that the test goes through."""
    found: Address = request.getfixturevalue("database" if through == "postgres" else "project")
    return found


@pytest.fixture
async def mirror(address: Address, connection: asyncpg.Connection) -> AsyncIterator[Mirror]:
    """Inbox and drain over `address`."""
    async with connect(address) as door:
        yield await Mirror.over(door, connection)
