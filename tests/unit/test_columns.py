"""Records become one array per column, all of one length, in the names that the SQL functions read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sync.columns import Columns, record_columns
from sync.engines.base import Context
from sync.engines.vendure.mapping import map_event
from sync.records import Record
from tests.factory import Document, address, customer_changed, customer_deleted, line, order_changed, payload

SQL = Path(__file__).parents[2] / "sql" / "40_functions"
TYPES = {
    "customers": "customer_columns",
    "addresses": "address_columns",
    "deleted_customers": "deletion_columns",
    "orders": "order_columns",
    "items": "item_columns",
    "stages": "stage_columns",
    "deleted_orders": "deletion_columns",
}


def columns(*events: Document) -> dict[str, Columns]:
    records: list[Record] = []
    for event in events:
        records += map_event(event["type"], payload(event), Context(phone_region="LK"))
    return record_columns(records)


def lengths(section: Columns) -> set[int]:
    return {len(values) for values in section.values()}


def declared(sql_type: str) -> list[str]:
    """Return the names in a composite type of sql/."""
    text = "".join(file.read_text() for file in sorted(SQL.glob("*.sql")))
    found = re.search(rf"create type mirror\.{sql_type} as \((.*?)\n\);", text, re.DOTALL)
    assert found is not None
    return re.findall(r"^\s+(\w+) ", found[1], re.MULTILINE)


@pytest.mark.parametrize(("section", "sql_type"), TYPES.items())
def test_the_columns_are_those_that_the_function_reads(section: str, sql_type: str) -> None:
    assert sorted(columns()[section]) == sorted(declared(sql_type))


def test_without_records_every_column_is_empty() -> None:
    assert list(columns()) == list(TYPES)
    assert all(lengths(section) == {0} for section in columns().values())


def test_each_kind_of_record_goes_to_its_section() -> None:
    found = columns(customer_changed("1", 1), customer_changed("2", 1), customer_deleted("3", 1), order_changed("7", 1))
    ids = {name: section["source_id"] for name, section in found.items()}
    assert ids == {
        "customers": ["1", "2"], "addresses": [], "deleted_customers": ["3"],
        "orders": ["7"], "items": ["1"], "stages": ["placed"], "deleted_orders": [], "payments": ["1"],
    }  # fmt: skip


def test_a_part_names_what_it_belongs_to() -> None:
    found = columns(
        customer_changed("1", 1, addresses=[address("5"), address("6")]),
        customer_changed("2", 1, addresses=[address("7")]),
        order_changed("8", 1, lines=[line("1"), line("2")]),
        order_changed("9", 1, lines=[]),
    )
    assert found["addresses"]["customer_source_id"] == ["1", "1", "2"]
    assert found["items"]["order_source_id"] == ["8", "8"]
    assert all(len(lengths(section)) == 1 for section in found.values())


@pytest.mark.parametrize(("groups", "text"), [([], "[]"), ([{"name": 'The "A"'}], r'["The \"A\""]')])
def test_a_list_travels_as_text(groups: list[dict[str, Any]], text: str) -> None:
    assert columns(customer_changed("1", 1, groups=groups))["customers"]["group_names"] == [text]
