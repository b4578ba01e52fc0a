"""`mirror migrate --check`, run as a deployment runs it: what it prints, and the exit code that stops a roll-out."""

from __future__ import annotations

import os
import subprocess
import sys

from sync.migrate import migrate, migrations, pending, supabase_folder
from tests.postgres import with_database

TITLES = [migration.title for migration in migrations(supabase_folder())]


def mirror(dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command `mirror` on a database."""
    command = [sys.executable, "-m", "sync", *arguments]
    return subprocess.run(command, env={**os.environ, "DATABASE_URL": dsn}, capture_output=True, text=True, check=False)


async def test_what_is_pending_is_named_and_stays_pending(platform_database: str) -> None:
    checked = mirror(platform_database, "migrate", "--check")
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [f"pending {title}" for title in TITLES]
    assert "`mirror migrate` applies what is pending" in checked.stderr
    assert await pending(platform_database) == TITLES


def test_a_current_schema_is_said_to_be_current(database: str) -> None:
    checked = mirror(database, "migrate", "--check")
    assert (checked.returncode, checked.stdout) == (0, "Nothing is pending: the schema is current.\n")


async def test_after_migrating_nothing_is_pending(platform_database: str) -> None:
    assert mirror(platform_database, "migrate").returncode == 0
    assert mirror(platform_database, "migrate", "--check").returncode == 0
    assert (await migrate(platform_database)).migrations == []


def test_a_database_that_refuses_us_is_a_sentence_and_no_traceback(database: str) -> None:
    refused = mirror(with_database(database, "gone"), "migrate", "--check")
    assert refused.returncode == 1
    assert 'database "gone" does not exist. Check DATABASE_URL' in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_help_says_what_check_does() -> None:
    assert "exit code 1 if anything is" in " ".join(mirror("", "migrate", "--help").stdout.split())
