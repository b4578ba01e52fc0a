"""Codes by SMS: what it costs to compare one, and whether a flood of them takes the server from the hooks.

The flood asks for codes and enters wrong ones over many connections without a pause, each time for another number from
another address, and all of it is allowed: each round trip is two hashes. It comes from a process of its own, which the
hooks' load has to share the machine with, too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import bcrypt
import psutil
import uvloop

from api.limits.quotas import OFF, variable
from tests.bench import load, routes
from tests.hooks import SECRET
from tests.postgres import TestServer
from tests.raw_http import Line, request

CONNECTIONS = 50
VERIFICATIONS = 25
"""As many as may wait for their hash at once, and some less."""
TURNS = 3
BCRYPT_COST = 10
"""As MIRROR_BCRYPT_COST is without being set."""

ALLOWED = """
    update mirror.otp_settings
    set requester_hourly = 1000000, requester_daily = 1000000, store_daily = 1000000, daily_budget = 1000000,
        prefix_daily = 1000000, breaker_after = 1000000
"""
HASHED = "select count(*) from public.otp_sessions where otp_hash is not null"
WRONG = "000000"


def measure_codes(server: TestServer, template: str, hooks: int) -> dict[str, float]:
    """Return what codes cost and what they leave to so many hooks, in a database of its own."""
    name = server.create(template=template)
    try:
        with _api(server.owner(name)) as (address, api):
            asyncio.run(_allow(server.owner(name)))
            cost = asyncio.run(_verification_ms(server.owner(name), address, api))
            return {"otp_bcrypt_cpu_ms": _bcrypt_ms(), "otp_verify_cpu_ms": cost, **_beside(address, hooks)}
    finally:
        server.drop(name)


def _beside(address: str, hooks: int) -> dict[str, float]:
    """Return what hooks get beside the flood, as shares of what they get alone."""
    alone, beside = [], []
    for turn in range(TURNS):
        first = 70_000_000 + turn * 2 * hooks
        alone.append(load.run(address, load.Hooks(routes.REAL_HOOKS, first, hooks)))
        with _flood(address):
            beside.append(load.run(address, load.Hooks(routes.REAL_HOOKS, first + hooks, hooks)))
    return {
        "otp_flood_hooks_share": _median(b.per_second / a.per_second for a, b in zip(alone, beside, strict=True)),
        "otp_flood_p99_ratio": _median(b.p99_ms / a.p99_ms for a, b in zip(alone, beside, strict=True)),
        "otp_flood_hooks_p99_ms": _median(outcome.p99_ms for outcome in beside),
    }


@contextmanager
def _api(dsn: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run the API behind a proxy that is trusted; give its address and its process. The texts go nowhere."""
    settings = {"DATABASE_URL": dsn, "VENDURE_HOOK_SECRETS": SECRET, "MIRROR_PORT": "0"}
    environment = {**os.environ, **settings, "MIRROR_TRUSTED_PROXIES": "127.0.0.1", variable("codes"): OFF}
    command = [sys.executable, "-m", "api"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().split()[-1], psutil.Process(child.pid)
        finally:
            child.terminate()


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _bcrypt_ms() -> float:
    """Return the processor time of one comparison, all else left out."""
    hashed = bcrypt.hashpw(b"123456", bcrypt.gensalt(BCRYPT_COST))
    began = time.process_time()
    for _ in range(VERIFICATIONS):
        bcrypt.checkpw(b"654321", hashed)
    return (time.process_time() - began) / VERIFICATIONS * 1000


async def _verification_ms(dsn: str, address: str, api: psutil.Process) -> float:
    """Return the processor time of one wrong code in the API and in Postgres together."""
    connection = await asyncpg.connect(dsn)
    postmaster = psutil.Process(await connection.fetchval("select pg_backend_pid()")).parent()
    line = Line(address)
    sessions = [await _ask(line, number) for number in range(VERIFICATIONS)]
    while await connection.fetchval(HASHED) < VERIFICATIONS:  # noqa: ASYNC110 - it happens in another process
        await asyncio.sleep(0.05)
    watched = [api, *(postmaster.children() if postmaster else [])]
    began = _cpu_seconds(watched)
    for number, session in enumerate(sessions):
        await _enter(line, session, number)
    spent = _cpu_seconds(watched) - began
    line.close()
    await connection.close()
    return spent / VERIFICATIONS * 1000


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())


async def _allow(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(ALLOWED)
    await connection.close()


@contextmanager
def _flood(address: str) -> Iterator[None]:
    """Flood the API from another process while this lasts."""
    with subprocess.Popen([sys.executable, "-m", "tests.bench.codes", address]) as child:
        time.sleep(2)
        try:
            yield
        finally:
            child.terminate()


async def _rush(address: str) -> None:
    crowd = itertools.count(int(time.time()) % 1_000_000 * 1000)

    async def one() -> None:
        line = Line(address)
        for number in crowd:
            await _enter(line, await _ask(line, number), number)

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def _ask(line: Line, number: int) -> str:
    """Ask for a code for some number from some address; return the session, or one that there is not."""
    scattered = number * 7919 % 10_000_000
    answer = await _post(line, "/otp/request", {"phone": f"9477{scattered:07}"}, number)
    return str(answer.get("session_id", "none"))


async def _enter(line: Line, session: str, number: int) -> None:
    await _post(line, "/otp/verify", {"session_id": session, "code": WRONG}, number)


async def _post(line: Line, path: str, content: dict[str, str], number: int) -> dict[str, object]:
    by = f"203.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    headers = {"content-type": "application/json", "x-forwarded-for": by}
    answer = await line.send(request("POST", path, headers, json.dumps(content).encode()))
    return dict(json.loads(answer.body))


if __name__ == "__main__":
    uvloop.run(_rush(sys.argv[1]))
