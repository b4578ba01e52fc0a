"""Fixtures for the tests that go all the way: over HTTP into a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from sync.settings import Address
from tests.flow.proxy import Proxy, proxy
from tests.flow.serving import SECRETS_VARIABLE, serving
from tests.hooks import SECRET


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment knows the shop's secret."""
    monkeypatch.setenv(SECRETS_VARIABLE, SECRET)


@pytest.fixture
async def api(address: Address, secrets: None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API on `address`."""
    async with serving(address) as client:
        yield client


@pytest.fixture
async def network(database: str) -> AsyncIterator[Proxy]:
    """A way to `database` that can fail."""
    async with proxy(database) as opened:
        yield opened
