"""Run the pgTAP tests: `python -m tests.pgtap <folder with Debian's initdb> [a test …]`.

Makes a throwaway server with pg_cron, prepares a database as Supabase has it, migrates as the role `postgres`, and runs
`pg_prove` as that role, in the way that `supabase test db` does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from sync.migrate import migrate, supabase_folder
from tests.other_postgres import throwaway_server
from tests.postgres import TestServer, apply_platform, as_role

DATABASE = "pgtap"
WITH_CRON = {
    "shared_preload_libraries": "pg_cron",
    "cron.database_name": DATABASE,
    "cron.use_background_workers": "on",
}
CREATE = (f"create database {DATABASE} owner postgres",)
# As Supabase grants it to `postgres`.
EXTENSIONS = (
    "create extension pgtap with schema extensions",
    "create extension pg_cron",
    "grant usage on schema cron to postgres",
    "grant select on cron.job to postgres",
)
TESTS = (supabase_folder() / "tests", Path(__file__).parent)


def prepare(superuser_dsn: str) -> None:
    """Make the database: the platform as superuser, our schema as `postgres`."""
    server = TestServer(as_role("postgres", superuser_dsn), superuser_dsn)
    server.run("create role postgres nosuperuser createdb createrole replication bypassrls login")
    server.run(*CREATE)
    apply_platform(server, DATABASE)
    server.run(*EXTENSIONS, database=DATABASE)
    asyncio.run(migrate(server.owner(DATABASE)))


def prove(superuser_dsn: str, tests: list[str]) -> int:
    """Run the tests as `postgres`; return pg_prove's exit code."""
    (folder,) = parse_qs(urlsplit(superuser_dsn).query)["host"]
    where = {"PGHOST": folder, "PGUSER": "postgres", "PGDATABASE": DATABASE, "PGOPTIONS": ""}
    command = ["pg_prove", "--ext", ".sql", "--recurse", *(tests or map(str, TESTS))]
    return subprocess.run(command, env={**os.environ, **where}, check=False).returncode


if __name__ == "__main__":
    with throwaway_server(Path(sys.argv[1]), WITH_CRON) as dsn:
        prepare(dsn)
        sys.exit(prove(dsn, sys.argv[2:]))
