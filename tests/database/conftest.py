"""Fixtures of the tests that live in one database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.database.shop import Shop, open_shop


@pytest.fixture
async def shop(database: str, connection: asyncpg.Connection) -> AsyncIterator[Shop]:
    """A pre-order shop over `database`."""
    async with open_shop(database, connection) as opened:
        yield opened
