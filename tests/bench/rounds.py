"""A round of the bench: everything once, the mirror and what it is measured against one after the other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tests.bench import apply, backfill, lag, load, per_row, pgbench, routes
from tests.bench.shop import ORDERS_PER_CUSTOMER, order_code, phone
from tests.bench.slow_line import slow_line
from tests.hooks import SECRET
from tests.postgres import TestServer

Rates = dict[str, float]


class Size(msgspec.Struct, frozen=True):
    """How much is measured."""

    count: int
    """Requests or orders of one measurement."""
    peer_orders: int
    """Orders for those that take them row by row: their rate does not depend on how many there are."""
    lag_hooks: int


def measure_round(server: TestServer, template: str, size: Size) -> Rates:
    """Measure everything once, in databases of the round's own."""
    with _databases(server, template, 8) as names:
        hooks, applied, copied, upserted, far, far_upserted, filled, waiting = (server.owner(name) for name in names)
        return {
            **accept(hooks, size.count),
            **asyncio.run(apply_all(applied, copied, size.count)),
            "upsert a row": asyncio.run(per_row.upsert_rows(upserted, apply.map_all(size.peer_orders))),
            **apply_from_afar(far, far_upserted, size),
            **backfill.measure_backfill(filled, server.superuser(names[6]), size.count),
            **lag_of(waiting, size.lag_hooks),
            **track(applied, size.count),
        }


@contextmanager
def _databases(server: TestServer, template: str, count: int) -> Iterator[list[str]]:
    names = [server.create(template=template) for _ in range(count)]
    try:
        yield names
    finally:
        for name in names:
            server.drop(name)


def accept(dsn: str, count: int) -> Rates:
    """Hooks of one event each, signed, answered after the commit."""
    paths = {
        "bare hook route": routes.BARE_HOOKS,
        "one insert a request": routes.SINGLE_HOOKS,
        "accept": routes.REAL_HOOKS,
    }
    first = len(paths) * count
    asyncio.run(pgbench.prepare_hooks(dsn, first, count))
    with serving(dsn) as address:
        for path in paths.values():
            load.run(address, load.Hooks(path, 10_000_000, load.CONNECTIONS))  # warm
        rates = {
            name: load.run(address, load.Hooks(path, position * count, count)).per_second
            for position, (name, path) in enumerate(paths.items())
        }
    return {**rates, "accept, by pgbench": pgbench.accept(dsn, first, count)}


async def apply_all(applied: str, copied: str, orders: int) -> Rates:
    """Stored events into tables, and the rows that they became by COPY."""
    events = await apply.fill_inbox(applied, orders)
    rates = {"apply": await apply.drain(applied, events)}
    rates["binary COPY"] = await apply.copy_rows(copied, await apply.read_rows(applied), events)
    rates["binary COPY, in orders"] = rates["binary COPY"] * orders / events
    return rates


def apply_from_afar(dsn: str, peers: str, size: Size) -> Rates:
    """Stored events into tables of a database that is 5 ms away."""
    events = asyncio.run(apply.fill_inbox(dsn, size.count))
    with slow_line(dsn) as far:
        rates = {"apply, 5 ms away": asyncio.run(apply.drain(far, events))}
    with slow_line(peers) as far:
        rates["upsert a row, 5 ms away"] = asyncio.run(per_row.upsert_rows(far, apply.map_all(size.peer_orders)))
    return rates


def lag_of(dsn: str, hooks: int) -> dict[str, float]:
    """What hooks wait until their order is there."""
    with serving(dsn) as address:
        return lag.measure_lag(dsn, address, hooks)


def track(dsn: str, count: int) -> Rates:
    """Answers to customers who know code and phone: as fast as they come, and how long one takes at half of that."""
    orders = [(order_code(number), phone(number // ORDERS_PER_CUSTOMER)) for number in range(count)]
    rates = {"track, by pgbench": pgbench.track(dsn, count)}
    with serving(dsn) as address:
        for name, path in (("bare order route", routes.BARE_ORDERS), ("track", routes.REAL_ORDERS)):
            load.run(address, load.Lookups(path, orders, load.CONNECTIONS))  # warm
            rates[name] = load.run(address, load.Lookups(path, orders, count)).per_second
        half = load.run(address, load.Lookups(routes.REAL_ORDERS, orders, count), per_second=rates["track"] / 2)
    return {**rates, "track_p50_ms": half.p50_ms, "track_p99_ms": half.p99_ms}


UNREACHED = "1000000/60"
"""A limit that is counted, and not reached: all questions come from one address."""


@contextmanager
def serving(dsn: str) -> Iterator[str]:
    """Run the API and the floors' routes in a process of its own; give its address."""
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "VENDURE_HOOK_SECRETS": SECRET,
        "MIRROR_LIMIT_TRACKING": UNREACHED,
        "MIRROR_LIMIT_GUESSES": UNREACHED,
    }
    command = [sys.executable, "-m", "tests.bench.server"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().split()[-1]
        finally:
            child.terminate()
