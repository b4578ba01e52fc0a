"""A stand-in for PostgREST: the one request that the mirror makes, in the transaction that PostgREST makes for it.

It logs in as `authenticator` and takes on the role of the key, so rights, time-outs and who is acting are the real
ones. Which status an error has follows https://docs.postgrest.org/en/stable/references/errors.html.
"""

from __future__ import annotations

import asyncio
import json

import asyncpg

from tests.database.postgrest import SETTINGS

CONNECTIONS = 10
CALL = """
    select public.mirror_call(a.p_function, a.p_arguments)
    from json_to_record($1) as a (p_function text, p_arguments json)
"""
IS_THERE = "select to_regprocedure('public.mirror_call(text, json)') is not null"
TAKE_ITS_TIME = """
    select set_config('statement_timeout', split_part(setting, '=', 2), true)
    from pg_proc, unnest(proconfig) as setting
    where oid = 'public.mirror_call(text, json)'::regprocedure and setting like 'statement_timeout=%'
"""

STATUSES = {
    "08": 503, "09": 500, "0L": 403, "0P": 403, "23503": 409, "23505": 409, "25006": 405, "25": 500, "28": 403,
    "2D": 500, "38": 500, "39": 500, "3B": 500, "40": 500, "42501": 403, "42883": 404, "42P01": 404, "53": 503,
    "54": 413, "55": 500, "57": 500, "58": 500, "F0": 500, "HV": 500, "P0001": 400, "P0": 500, "XX": 500,
}  # fmt: skip


class StandIn:
    """Answers for one database, over a few connections that open when they are needed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def call(self, role: str, function: str, body: bytes) -> tuple[int, bytes]:
        try:
            return await self._call(role, function, body)
        except asyncpg.PostgresError as error:
            state = error.sqlstate or "XX000"
            status = 401 if state == "42501" and role == "anon" else _status(state)
            return status, _error(state, error.args[0], error.detail, error.hint)
        except (OSError, asyncpg.InterfaceError):
            return 503, _error("PGRST000", "Could not connect with the database.")

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def _call(self, role: str, function: str, body: bytes) -> tuple[int, bytes]:
        pool = await self._opened()
        async with pool.acquire() as connection:
            if function != "mirror_call" or not await connection.fetchval(IS_THERE):
                message = f"Could not find the function public.{function} in the schema cache"
                return 404, _error("PGRST202", message)
            async with connection.transaction():
                await connection.fetch(SETTINGS, role, json.dumps({"role": role}), "POST")
                await connection.fetch(TAKE_ITS_TIME)
                answer: str = await connection.fetchval(CALL, body.decode())
        return 200, answer.encode()

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(self._dsn, min_size=0, max_size=CONNECTIONS)
            return self._pool


def _status(state: str) -> int:
    return STATUSES.get(state) or STATUSES.get(state[:2]) or 400


def _error(code: str, message: str, details: str | None = None, hint: str | None = None) -> bytes:
    return json.dumps({"code": code, "message": message, "details": details, "hint": hint}).encode()
