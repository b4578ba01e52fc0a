"""`docs/studio.md` is true: it explains every message of the rules, and names only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "studio.md").read_text()
RULES = sorted((ROOT / "sql" / "40_functions").glob("*.sql"))

RAISED = re.compile(r"raise exception '((?:[^']|'')+)'")
FOR_PROGRAMS = {
    "claim … holds only … of the … events that it settles",
    "another transaction brought one of these customers at the same moment",
    "mirror.…(…) is no function that … may call",
    "not tried: the events before it took too long",
    "another process has taken the run over",
    "over the limit",
}
NO_ORDER = "There … with the code …."
CODE_MESSAGES = ["There is no order with the code ….", "There are orders of several stores with the code …."]
TABLES = """
    select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
"""
COLUMNS = "select distinct column_name::text from information_schema.columns where table_schema = 'public'"


def messages() -> set[str]:
    """Return the sentences that an admin may read, with … where a name or a value stands."""
    raised = {
        found.replace("''", "'").replace("%", "…") for file in RULES for found in RAISED.findall(file.read_text())
    }
    return (raised - FOR_PROGRAMS - {NO_ORDER}) | (set(CODE_MESSAGES) if NO_ORDER in raised else set())


def explained() -> set[str]:
    section = GUIDE.split("## What the messages mean")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def test_every_message_is_explained_and_no_other() -> None:
    assert len(messages()) > 20
    assert explained() == messages()


async def test_every_table_and_cell_of_a_task_exists(connection: asyncpg.Connection) -> None:
    tables = {row[0] for row in await connection.fetch(TABLES)}
    columns = {row[0] for row in await connection.fetch(COLUMNS)}
    tasks = re.findall(r"^\| [a-z][^|]+ \| (?:`(\w+)`|\W) \| ([^|]+) \|", GUIDE, re.MULTILINE)
    assert len(tasks) > 15
    assert {table for table, _ in tasks} - {""} <= tables
    statuses = {
        row[0]
        for kind in ("batch_status", "lexoffice_sync_status")
        for row in await connection.fetch(f"select unnest(enum_range(null::public.{kind}))::text")
    }
    cells = {cell for _, do in tasks for cell in re.findall(r"`([a-z_]+)`", do)}
    assert cells <= columns | statuses


async def test_what_is_to_be_copied_works(connection: asyncpg.Connection) -> None:
    await connection.execute((ROOT / "supabase" / "seed.sql").read_text())
    ((batch, code),) = await connection.fetch(
        "select batch_number, order_code from public.import_batches b "
        "join public.customer_orders_summary o on o.batch_id = b.id where o.delivery_stage = 'ARRIVED' limit 1"
    )
    queries = re.findall(r"```sql\n(.+?);\n\s*```", GUIDE, re.DOTALL)
    assert len(queries) == 6
    for query in queries:
        ours = query.replace("20261120-0001", batch).replace("K3QTXZ5VN8PL2M4W", code)
        assert await connection.fetch(ours) != []
