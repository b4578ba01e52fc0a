"""Whoever watches an order: the events of `GET /orders/{code}/events`, as a browser reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import asyncpg
import httpx

PHONE = "94771234567"
ADDRESS = {"streetLine1": "4/1 Temple Lane", "phoneNumber": PHONE}
EVENTS = "/orders/CODE1/events"


class Events:
    """What a browser's EventSource would make of a stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.retry: int | None = None
        self.heartbeats = 0
        self._lines = answer.aiter_lines()

    async def next(self, seconds: float = 10) -> dict[str, Any]:
        """Return the next event; raise StopAsyncIteration when the stream ends."""
        found: dict[str, Any] = {}
        async with asyncio.timeout(seconds):
            while True:
                line = await anext(self._lines)
                name, _, value = line.partition(":")
                if not line and "data" in found:
                    return found
                if name == "retry":
                    self.retry = int(value)
                elif name == "id":
                    found["id"] = value.strip()
                elif name == "data":
                    found["data"] = json.loads(value)
                elif line.startswith(":"):
                    self.heartbeats += 1

    async def stage(self) -> str:
        """Return the stage that the next event tells."""
        found: str = (await self.next())["data"]["stage"]
        return found

    async def ends(self, seconds: float = 10) -> None:
        """Read to the end; whatever comes before it."""
        async with asyncio.timeout(seconds):
            async for _ in self._lines:
                pass


@asynccontextmanager
async def watching(api: httpx.AsyncClient, url: str = EVENTS, **how: Any) -> AsyncIterator[Events]:
    """Watch an order, as whoever has its phone number."""
    if "params" not in how:
        how["params"] = {"phone": PHONE}
    async with api.stream("GET", url, **how) as answer:
        assert answer.status_code == 200, await answer.aread()
        events = Events(answer)
        async with aclosing(events._lines):  # type: ignore[type-var]
            yield events


async def set_stage(connection: asyncpg.Connection, stage: str, code: str = "CODE1") -> None:
    """Move an order on, as an admin does."""
    await connection.execute(
        "update public.order_delivery_status set stage = $2::delivery_stage where order_code = $1", code, stage
    )
