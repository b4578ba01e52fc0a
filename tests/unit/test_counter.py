"""The counts of rate limits in one process: who waits for something to be given back gets it."""

from __future__ import annotations

import asyncio
from typing import cast

from api.limits.counter import Counter
from api.limits.quotas import Quota
from sync.database import Database

SMALL = Quota("small", 8, 60)


async def test_who_stops_waiting_when_called_lets_the_next_one_in() -> None:
    counter = Counter(cast(Database, None))  # it is not asked: all waits for what is lent
    _, lent = await counter.reserve(SMALL, "somebody")
    first, second = (asyncio.create_task(counter.reserve(SMALL, "somebody")) for _ in range(2))
    await asyncio.sleep(0)
    assert lent is not None
    lent.settle(counts=False)
    first.cancel()
    async with asyncio.timeout(2):
        spent, _ = await second
    assert spent.is_granted
