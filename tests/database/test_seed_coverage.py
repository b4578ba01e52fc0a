"""`docs/seed-coverage.md` is true: every object that it names exists, and so does every test."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "seed-coverage.md"

NAMES = """
    with ours as (
        select oid, nspname, case nspname when 'public' then '' else nspname || '.' end as prefix
        from pg_namespace where nspname in ('public', 'mirror')
    )
    select prefix || relname from pg_class join ours on ours.oid = relnamespace
    union select prefix || relname || '.' || attname
    from pg_class join ours on ours.oid = relnamespace
    join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
    union select prefix || typname from pg_type join ours on ours.oid = typnamespace
    union select prefix || proname || '(' || array_to_string(proargnames[:pronargs], ', ') || ')'
    from pg_proc join ours on ours.oid = pronamespace and proargnames is not null
    union select prefix || proname || '()' from pg_proc join ours on ours.oid = pronamespace and pronargs = 0
"""
CELLS = re.compile(r"(?<!\\)\|")
QUOTED = re.compile(r"`([^`]+)`")


def rows() -> list[list[str]]:
    """Return the cells of each row: line, what the document says, where it lives, what proves it."""
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    return [[cell.strip() for cell in CELLS.split(line)[1:-1]] for line in lines]


def all_tests() -> set[str]:
    """Return the names of all tests, as the page writes them."""
    python = {
        f"{file.stem}::{name}"
        for file in (ROOT / "tests").glob("*/test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    return python | {file.name for file in (ROOT / "supabase" / "tests").glob("*.sql")}


async def test_every_object_that_is_named_exists(connection: asyncpg.Connection) -> None:
    there = {row[0] for row in await connection.fetch(NAMES)}
    named = [(line, name) for line, _, where, _ in rows() for name in QUOTED.findall(where)]
    assert len(named) > 150
    gone = [(line, name) for line, name in named if name not in there and not ("/" in name and (ROOT / name).exists())]
    assert gone == []


def test_every_test_that_is_named_exists() -> None:
    there = all_tests()
    named = [(line, name) for line, _, _, proof in rows() for name in QUOTED.findall(proof)]
    assert [(line, name) for line, name in named if name not in there] == []


def test_every_line_says_where_it_lives_and_all_but_the_introduction_are_proved() -> None:
    assert [line for line, _, where, _ in rows() if not where] == []
    assert [line for line, _, _, proof in rows() if not proof] == ["5", "10"]


@pytest.mark.parametrize("table", ["customers", "import_batches", "otp_sessions", "order_tracking"])
def test_the_page_goes_through_the_tables(table: str) -> None:
    assert any(f"(`{table}`)" in said for _, said, _, _ in rows())
