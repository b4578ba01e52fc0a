"""Transactions as PostgREST makes them: logged in as `authenticator`, with the token's role and claims set locally.

See https://docs.postgrest.org/en/stable/references/transactions.html. What is done in one is undone at its end.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

SETTINGS = """
    select set_config('role', $1, true), set_config('request.jwt.claims', $2, true),
      set_config('request.method', $3, true), set_config('search_path', 'public', true)
"""


@asynccontextmanager
async def authenticator(superuser_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection whose session user is `authenticator`, with no need of its password."""
    connection = await asyncpg.connect(superuser_dsn)
    try:
        await connection.execute("set session authorization authenticator")
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def acting_as(
    connection: asyncpg.Connection, role: str, claims: Mapping[str, Any] | None = None, *, method: str = "POST"
) -> AsyncIterator[None]:
    """Do what follows in a transaction for a token with this role and these claims, and undo it."""
    transaction = connection.transaction(readonly=method == "GET")
    await transaction.start()
    try:
        await connection.execute("set local statement_timeout = '8s'")
        await connection.fetch(SETTINGS, role, json.dumps({"role": role} | dict(claims or {})), method)
        yield
    finally:
        await transaction.rollback()
