"""`python -m tests.bench.bloat [--rounds N]`: do the tables stay as large as they are, under steady load?

A shop of a fixed size changes for ever: each round accepts changes of its orders, applies them, and prunes what is
older than a few rounds, as the schedule does. After the first rounds nothing may grow: what an update leaves behind
must be used again. Autovacuum looks every few seconds instead of every minute, so that minutes stand for days; how
much it lets lie is a share of a table, not a matter of time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from uuid import UUID

import asyncpg

from sync import inbox
from sync.database import Database, connect
from sync.drain import Drain
from sync.engines.vendure import payloads
from sync.migrate import migrate
from tests.bench.shop import order_change
from tests.factory import at
from tests.hooks import body_of
from tests.postgres import running_server

ROUNDS, WARM_UP = 60, 20
EVENTS = 1000
"""Of a round: a change of each of so many orders, so that no order is new after the first."""
KEPT, KEYS_KEPT = 5, 15
"""Rounds after which payloads, and keys, are old."""
HOOK_EVENTS = 100
TOLERATED = 1.25
"""How much larger the largest of the last rounds may be than the largest of the rounds that warm up."""

SIZES = """
    select n.nspname || '.' || c.relname as table, pg_total_relation_size(c.oid) / 1024 as kilobytes
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname in ('public', 'mirror') and pg_total_relation_size(c.oid) > 500 * 1024
"""
APPEND_ONLY = {"public.order_delivery_status_events", "mirror.audit_log"}
"""Histories grow by what happens, which is not bloat."""

Sizes = dict[str, int]


def main() -> int:
    """Run the rounds, print sizes, and return 1 if a table has grown."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bloat", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="write the sizes after each round, in kB, to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        name = server.create()
        asyncio.run(migrate(server.owner(name), superuser_dsn=server.superuser(name)))
        server.run("alter system set autovacuum_naptime = '3s'", "select pg_reload_conf()")
        sizes = asyncio.run(load(server.owner(name), arguments.rounds))
    if arguments.json:
        arguments.json.write_text(json.dumps(sizes, indent=1) + "\n")
    return show(sizes)


async def load(dsn: str, rounds: int) -> list[Sizes]:
    """Put the load on the database; return the sizes after each round, in kB."""
    connection = await asyncpg.connect(dsn)
    integration = await connection.fetchval("select id from mirror.integrations")
    ends: list[datetime] = []
    sizes: list[Sizes] = []
    async with connect(dsn) as database:
        drain = Drain(database)
        for number in range(rounds):
            started = time.monotonic()
            await _accept(database, integration, number)
            counts = await drain.run()
            if counts.applied != EVENTS:
                raise RuntimeError(f"{counts} instead of {EVENTS} applied events")
            ends.append(await connection.fetchval("select clock_timestamp()"))
            await connection.execute(
                "select mirror.prune_events($1, $2)", _before(ends, KEPT), _before(ends, KEYS_KEPT)
            )
            sizes.append({row["table"]: row["kilobytes"] for row in await connection.fetch(SIZES)})
            inbox_size = sizes[-1].get("mirror.webhook_events", 0)
            sys.stderr.write(f"round {number + 1}: {inbox_size} kB of inbox, {time.monotonic() - started:.1f} s\n")
    await connection.close()
    return sizes


def show(sizes: list[Sizes]) -> int:
    """Print the largest size of each table, early and late; return 1 if one has grown."""
    grown = False
    sys.stdout.write(f"{'kB, the largest':44}{'warming up':>12}{'after':>12}{'ratio':>8}\n")
    for table in sorted(sizes[-1]):
        early = max(size.get(table, 0) for size in sizes[:WARM_UP])
        late = max(size.get(table, 0) for size in sizes[WARM_UP:])
        ratio = late / early if early else float("inf")
        grown = grown or (table not in APPEND_ONLY and ratio > TOLERATED)
        sys.stdout.write(f"{table:44}{early:>12}{late:>12}{ratio:>8.2f}\n")
    return int(grown)


def _before(ends: list[datetime], rounds: int) -> datetime:
    """Return when the round so many before the last one ended."""
    return ends[max(len(ends) - 1 - rounds, 0)]


async def _accept(database: Database, integration: UUID, number: int) -> None:
    for start in range(0, EVENTS, HOOK_EVENTS):
        changes = [
            {**order_change(order), "id": f"{number}-{order}", "readAt": at(number)}
            for order in range(start, start + HOOK_EVENTS)
        ]
        for change in changes:
            change["data"]["state"] = f"State{number}"
            change["data"]["totalWithTax"] = 100000 + number
        events = payloads.read(body_of(*changes))
        await inbox.accept(database, [(integration, event) for event in events])


if __name__ == "__main__":
    sys.exit(main())
