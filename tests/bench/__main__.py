"""`python -m tests.bench [--json FILE] [--quick]`: throughput, as ratios to floors measured in the same run.

Each round measures the mirror and its floors one after the other, on a Postgres of the run's own. A ratio is the median
of its rounds, so that what else the machine does weighs on both sides. What is measured: `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from sync.migrate import migrate
from tests.bench import apply, load, routes
from tests.bench.shop import ORDERS_PER_CUSTOMER, order_code, phone
from tests.hooks import SECRET
from tests.postgres import TestServer, running_server

ROUNDS = 3
FULL, QUICK = 10_000, 2_000
"""Requests or orders of one measurement."""
FUNCTION_CONNECTIONS = 8

RATIOS = {
    "accept_vs_bare_route": ("accept", "bare hook route"),
    "accept_vs_single_insert": ("accept", "one insert a request"),
    "apply_vs_copy": ("apply", "binary COPY"),
    "apply_vs_per_row": ("apply", "upsert a row"),
    "track_vs_bare_route": ("track", "bare order route"),
    "track_vs_function": ("track", "the SQL function alone"),
}
Rates = dict[str, float]


def main() -> None:
    """Measure, print a table, and write the ratios where told."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write ratios and rates to this file")
    parser.add_argument("--quick", action="store_true", help="a fifth of the load; under two minutes")
    arguments = parser.parse_args()
    rounds = measure(QUICK if arguments.quick else FULL)
    rates = {name: statistics.median(rates[name] for rates in rounds) for name in rounds[0]}
    ratios = {name: sorted(rates[ours] / rates[floor] for rates in rounds) for name, (ours, floor) in RATIOS.items()}
    show(rates, ratios)
    if arguments.json:
        medians = {name: statistics.median(of_rounds) for name, of_rounds in ratios.items()}
        arguments.json.write_text(json.dumps({**medians, "per_second": rates, "of_rounds": ratios}, indent=1) + "\n")


def measure(count: int) -> list[Rates]:
    """Return the rates of each round, per second."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        template = server.create()
        asyncio.run(migrate(server.owner(template), superuser_dsn=server.superuser(template)))
        return [measure_round(server, template, count, number) for number in range(ROUNDS)]


def measure_round(server: TestServer, template: str, count: int, number: int) -> Rates:
    """Measure everything once, in databases of the round's own."""
    sys.stderr.write(f"round {number + 1} of {ROUNDS}\n")
    names = [server.create(template=template) for _ in range(4)]
    hooks, applied, copied, upserted = (server.owner(name) for name in names)
    rates = {
        **accept(hooks, count),
        **asyncio.run(apply_all(applied, copied, upserted, count)),
        **track(applied, count),
    }
    for name in names:
        server.drop(name)
    return rates


def accept(dsn: str, count: int) -> Rates:
    """Hooks of one event each, signed, answered after the commit."""
    paths = {
        "bare hook route": routes.BARE_HOOKS,
        "one insert a request": routes.SINGLE_HOOKS,
        "accept": routes.REAL_HOOKS,
    }
    with serving(dsn) as address:
        for path in paths.values():
            load.run(address, load.Hooks(path, 10_000_000, load.CONNECTIONS))  # warm
        return {
            name: load.run(address, load.Hooks(path, position * count, count)).per_second
            for position, (name, path) in enumerate(paths.items())
        }


async def apply_all(applied: str, copied: str, upserted: str, orders: int) -> Rates:
    """Stored events into tables."""
    events = await apply.fill_inbox(applied, orders)
    rates = {"apply": await apply.drain(applied, events)}
    rows = await apply.read_rows(applied)
    rates["binary COPY"] = await apply.copy_rows(copied, rows, events)
    rates["upsert a row"] = await apply.upsert_rows(upserted, rows, events)
    return rates


def track(dsn: str, count: int) -> Rates:
    """Answers to customers who know code and phone."""
    orders = [(order_code(number), phone(number // ORDERS_PER_CUSTOMER)) for number in range(count)]
    rates = {"the SQL function alone": asyncio.run(call_function(dsn, orders))}
    with serving(dsn) as address:
        for name, path in (("bare order route", routes.BARE_ORDERS), ("track", routes.REAL_ORDERS)):
            load.run(address, load.Lookups(path, orders, load.CONNECTIONS))  # warm
            rates[name] = load.run(address, load.Lookups(path, orders, count)).per_second
    return rates


async def call_function(dsn: str, orders: list[tuple[str, str]]) -> float:
    """Call the look-up function from this process, as fast as it answers."""
    pending = iter(orders)

    async def ask(connection: asyncpg.Connection) -> None:
        statement = await connection.prepare("select mirror.track_order('default', $1, $2)")
        for code, digits in pending:
            if await statement.fetchval(code, digits) is None:
                raise RuntimeError(f"{code} is not found")

    connections = [await asyncpg.connect(dsn) for _ in range(FUNCTION_CONNECTIONS)]
    started = time.perf_counter()
    await asyncio.gather(*(ask(connection) for connection in connections))
    elapsed = time.perf_counter() - started
    for connection in connections:
        await connection.close()
    return len(orders) / elapsed


@contextmanager
def serving(dsn: str) -> Iterator[str]:
    """Run the API and the floors' routes in a process of its own; give its address."""
    environment = {**os.environ, "DATABASE_URL": dsn, "VENDURE_HOOK_SECRETS": SECRET}
    command = [sys.executable, "-m", "tests.bench.server"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().split()[-1]
        finally:
            child.terminate()


def show(rates: Rates, ratios: dict[str, list[float]]) -> None:
    """Print what was measured."""
    lines = [f"per second, median of {ROUNDS} rounds"]
    lines += [f"  {name:28}{rate:>10,.0f}" for name, rate in rates.items()]
    lines += ["", "ratio, median of the rounds' (lowest to highest)"]
    lines += [
        f"  {name:28}{statistics.median(of_rounds):>10.2f}  ({of_rounds[0]:.2f} to {of_rounds[-1]:.2f})"
        for name, of_rounds in ratios.items()
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
