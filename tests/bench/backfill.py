"""Documents → tables: a backfill from an engine that has them all ready, and dlt with the very same documents.

No network: the client's answers lie in memory. A backfill does all that it does otherwise, comparing, counting and
leaving receipts; dlt merges by id into tables of its own (`tests/bench/dlt_load.py`).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from sync.answers import Source
from sync.backfill import backfill
from sync.database import connect
from sync.engines.base import Context, Event, Fingerprint, Sweep
from sync.engines.registry import ENGINES
from sync.engines.vendure import payloads
from sync.garbage import spare_what_is_loaded
from sync.records import Delivery, Entity
from tests.bench.apply import slices
from tests.hooks import body_of

READ_AT = datetime(2026, 11, 20, 10, tzinfo=UTC)


class Ready:
    """A client of an engine whose documents are all at hand."""

    def __init__(self, orders: int) -> None:
        self._events: dict[Entity, dict[str, Event]] = {"customer": {}, "order": {}}
        for changes in slices(orders):
            hashed = [{**change, "hash": change["id"]} for change in changes]
            for change, event in zip(hashed, payloads.read(body_of(*hashed)), strict=True):
                entity: Entity = "order" if event.event_type.startswith("order") else "customer"
                self._events[entity][change["entityId"]] = event
        self._ids = {entity: sorted(events) for entity, events in self._events.items()}

    is_test: bool | None = None

    async def count(self, entity: Entity, *, since: datetime | None = None) -> int:
        return 0 if since else len(self._ids[entity])

    async def sweep(
        self, entity: Entity, *, position: str | None = None, since: datetime | None = None, limit: int = 500
    ) -> Sweep:
        first = int(position or 0)
        found = [] if since else self._ids[entity][first : first + limit]
        prints = [Fingerprint(each, f"{entity}-{each}") for each in found]
        is_last = first + limit >= len(self._ids[entity])
        return Sweep(READ_AT, len(found), prints, None if since or is_last else str(first + limit))

    async def fetch(self, entity: Entity, source_ids: Sequence[str]) -> list[Event]:
        return [self._events[entity][source_id] for source_id in source_ids]

    async def set_delivery(self, source_id: str, delivery: Delivery) -> None:
        raise NotImplementedError

    def documents(self) -> list[bytes]:
        """Return all, in lists as JSON, as they go to dlt."""
        events = [bytes(event.payload) for events in self._events.values() for event in events.values()]
        return [b"[" + b",".join(events[first : first + 1000]) + b"]" for first in range(0, len(events), 1000)]


def measure_backfill(dsn: str, superuser_dsn: str, orders: int) -> dict[str, float]:
    """Return orders per second, by a backfill and by dlt, which is asked twice: for fewer rows, and for the same."""
    client = Ready(orders)
    return {
        "backfill": orders / asyncio.run(_backfill(dsn, client)),
        "dlt": orders / _load_by_dlt(superuser_dsn, client, "dlt"),
        "dlt, same rows": orders / _load_by_dlt(superuser_dsn, client, "dlt_same_rows", "same-rows"),
    }


async def _backfill(dsn: str, client: Ready) -> float:
    connection = await asyncpg.connect(dsn)
    integration = await connection.fetchval("select id from mirror.integrations")
    await connection.close()
    source = Source(integration, "vendure", ENGINES["vendure"], Context(phone_region="LK"), client)
    async with connect(dsn) as database:
        await database.rows("list_stores")  # connected before the clock starts
        spare_what_is_loaded()  # as `mirror backfill` does
        started = time.perf_counter()
        done = await backfill(database, source)
        elapsed = time.perf_counter() - started
    if done.differing:
        raise RuntimeError(f"the backfill is not complete: {done}")
    return elapsed


def _load_by_dlt(dsn: str, client: Ready, schema: str, *options: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "documents.jsonl"
        file.write_bytes(b"\n".join(client.documents()))
        command = [sys.executable, "-m", "tests.bench.dlt_load", dsn, str(file), schema, *options]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
