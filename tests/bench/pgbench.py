"""The SQL of a route by pgbench, Postgres's own load: what the database answers when nothing stands before it."""

from __future__ import annotations

import re
import subprocess

import asyncpg

from sync import inbox
from sync.embedded import programs
from sync.engines.vendure import payloads
from tests.bench.shop import ORDERS_PER_CUSTOMER, order_hook

CLIENTS = 8
SCRIPT = """
\\set number :number + 1
\\set order :first + :client_id * :each + :number
{statement};
"""
TRACK = f"""
    select 1 / count(told)
    from mirror.track_orders(
        '{{default}}', array['BENCH' || lpad((:order)::text, 8, '0')], '{{phone}}',
        array['9477' || lpad(((:order)::integer / {ORDERS_PER_CUSTOMER})::text, 7, '0')]
    )
"""
"""Divides by zero, and so ends the run, where an order is not found."""
ACCEPT = "select mirror.accept_events(events) from bench_hooks where number = (:order)::integer"


def track(dsn: str, count: int) -> float:
    """Look up orders, one a call; return how many a second."""
    return _run(dsn, TRACK, count)


async def prepare_hooks(dsn: str, first: int, count: int) -> None:
    """Put the events of as many hooks into a table, as a call takes them."""
    connection = await asyncpg.connect(dsn)
    integration = await connection.fetchval("select id from mirror.integrations")
    await connection.execute("create table bench_hooks (number integer primary key, events json)")
    arriving = ((number, payloads.read(order_hook(number))) for number in range(first, first + count))
    rows = [(number, inbox.event_columns([(integration, event) for event in events])) for number, events in arriving]
    await connection.copy_records_to_table("bench_hooks", records=rows)
    await connection.execute("analyze bench_hooks")
    await connection.close()


def accept(dsn: str, first: int, count: int) -> float:
    """Store the events of the hooks that were prepared, one hook a call and so a commit; return how many a second."""
    return _run(dsn, ACCEPT, count, first)


def _run(dsn: str, statement: str, count: int, first: int = 0) -> float:
    each = count // CLIENTS
    options = ["--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", "--jobs=2", f"--transactions={each}"]
    variables = {"number": -1, "each": each, "first": first}
    options += [f"--define={name}={value}" for name, value in variables.items()]
    done = subprocess.run(
        [programs() / "pgbench", *options, "--file=-", dsn],
        input=SCRIPT.format(statement=" ".join(statement.split())), text=True, capture_output=True, check=False,
    )  # fmt: skip
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or rate is None:
        raise RuntimeError(f"pgbench: {done.stderr or done.stdout}")
    return float(rate.group(1))
