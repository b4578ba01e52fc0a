"""`python -m tests.bench [--json FILE] [--quick] [--orders N]`: throughput, as ratios to floors, and waiting times.

Each round measures the mirror and its floors one after the other, on a Postgres of the run's own. A ratio is the median
of its rounds, so that what else the machine does weighs on both sides. Then a shop of N orders is made, and reports are
asked of it. What is measured: `docs/performance.md`.
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
from tests.bench.reports import measure_reports
from tests.bench.shop import ORDERS_PER_CUSTOMER, order_code, phone
from tests.hooks import SECRET
from tests.postgres import TestServer, running_server

ROUNDS = 3
FULL, QUICK = 10_000, 2_000
"""Requests or orders of one measurement."""
FULL_SHOP, QUICK_SHOP = 1_000_000, 20_000
"""Orders of the shop that reports are asked of."""
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
    """Measure, print a table, and write the figures where told."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write ratios, rates and waiting times to this file")
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the load and a small shop; two minutes or three"
    )
    parser.add_argument(
        "--orders", type=int, help=f"of the shop for reports; {FULL_SHOP:,}, or {QUICK_SHOP:,} if quick"
    )
    arguments = parser.parse_args()
    orders = arguments.orders or (QUICK_SHOP if arguments.quick else FULL_SHOP)
    rounds, waiting = measure(QUICK if arguments.quick else FULL, orders)
    rates = {name: statistics.median(rates[name] for rates in rounds) for name in rounds[0]}
    ratios = {name: sorted(rates[ours] / rates[floor] for rates in rounds) for name, (ours, floor) in RATIOS.items()}
    show(rates, ratios)
    show_waiting(waiting, orders)
    if arguments.json:
        medians = {name: statistics.median(of_rounds) for name, of_rounds in ratios.items()}
        figures = {**medians, **waiting, "orders": orders, "per_second": rates, "of_rounds": ratios}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(count: int, orders: int) -> tuple[list[Rates], dict[str, float]]:
    """Return the rates of each round, per second, and how long reports take in a shop of so many orders, in ms."""
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        template = server.create()
        asyncio.run(migrate(server.owner(template), superuser_dsn=server.superuser(template)))
        rounds = [measure_round(server, template, count, number) for number in range(ROUNDS)]
        sys.stderr.write(f"a shop of {orders:,} orders\n")
        return rounds, asyncio.run(measure_reports(server, orders))


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


def show_waiting(waiting: dict[str, float], orders: int) -> None:
    """Print how long reports take."""
    lines = ["", f"milliseconds in a shop of {orders:,} orders, median"]
    lines += [f"  {name:28}{milliseconds:>10.2f}" for name, milliseconds in waiting.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
