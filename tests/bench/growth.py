"""Whether applying stays as fast when the tables have grown: the same new orders, into a small shop and a large one."""

from __future__ import annotations

import asyncio
import statistics
import sys

from tests.bench import apply
from tests.bench.large_shop import make_large_shop
from tests.postgres import TestServer

FIRST = 100_000_000
"""The new orders' numbers begin here: no order of the shops has them."""


def measure_growth(server: TestServer, sizes: tuple[int, int], orders: int, rounds: int) -> dict[str, list[float]]:
    """Return the rates of each round, by the orders that the shop had: the smaller one first."""
    names = {size: server.create() for size in sizes}
    for size, name in names.items():
        sys.stderr.write(f"a shop of {size:,} orders, to grow\n")
        asyncio.run(make_large_shop(server, name, size))
    rates: dict[str, list[float]] = {f"apply to {size:,} orders": [] for size in sizes}
    for number in range(rounds + 1):
        for size, name in names.items():
            rate = asyncio.run(_apply(server.owner(name), orders, FIRST + number * orders))
            if number:  # the first one warms the caches
                rates[f"apply to {size:,} orders"].append(rate)
    for name in names.values():
        server.drop(name)
    return rates


def growth_of(rates: dict[str, list[float]]) -> float:
    """Return what is left of the small shop's rate in the large one: the median of the rounds."""
    small, large = rates.values()
    return statistics.median(there / here for here, there in zip(small, large, strict=True))


async def _apply(dsn: str, orders: int, first: int) -> float:
    return await apply.drain(dsn, await apply.fill_inbox(dsn, orders, first))
