"""Splitting SQL files: only a semicolon that ends a statement splits."""

from __future__ import annotations

import pytest

from sync.migrate import migrations, supabase_folder
from sync.statements import split

WHOLE = {
    "single quotes": "select 'it''s; fine'",
    "escapes": r"select e'it\'s; fine', ';'",
    "a backslash in a plain string": r"select '\', ';'",
    "double quotes": 'select 1 as "a;b"',
    "dollar quotes": "do $$ begin perform ';'; end $$",
    "named dollar quotes": "do $x$ begin perform $$a;b$$; end; $x$",
    "a dollar inside a name": "select a$b$c from t$",
    "a parameter": "prepare p as select $1, ';'",
    "a line comment": "select 1 -- not; yet\n, 2",
    "a comment": "select /* a; /* nested; */ still; */ 1",
    "a quote in a comment": "select 1 -- it's\n, ';'",
    "an atomic body": "create function f() returns int begin atomic; select case when true then 1 end; end",
    "a column named end": 'create table t ("begin" int, end_at int, "end" int)',
}


@pytest.mark.parametrize("statement", WHOLE.values(), ids=WHOLE.keys())
def test_a_statement_stays_whole(statement: str) -> None:
    assert split(f"{statement};\n\nselect 2;") == [statement, "select 2"]


def test_comments_go_with_what_follows_them() -> None:
    assert split("-- one\nselect 1; -- two\nselect 2;\n-- the end\n") == [
        "-- one\nselect 1",
        "-- two\nselect 2",
        "-- the end",
    ]


@pytest.mark.parametrize("sql", ["", " \n", ";;", "; ;\n"])
def test_nothing_is_no_statement(sql: str) -> None:
    assert split(sql) == []


@pytest.mark.parametrize("statement", ["select 'open; ", "do $$ open;", "/* open; /* */ select 1;"])
def test_what_is_never_closed_takes_the_rest(statement: str) -> None:
    assert split(f"select 1;{statement}")[0] == "select 1"


def test_no_statement_of_ours_is_lost() -> None:
    for migration in migrations(supabase_folder()):
        sql = migration.file.read_text()
        assert "".join(sql.split()).replace(";", "") == "".join("".join(split(sql)).split()).replace(";", "")
