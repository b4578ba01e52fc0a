"""Run the database tests on another Postgres: `python -m tests.other_postgres <folder with initdb> [pytest …]`.

Makes a throwaway server with those programs, reached through a socket in a private folder; runs pytest with it;
stops and removes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sync.service_account import ServiceAccount
from tests.postgres import OTHER_SERVER, quick_folder


@contextmanager
def throwaway_server(programs: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Give the superuser's address of a new server made with these programs, with settings of its own."""
    with quick_folder() as folder:
        data = folder / "data"
        account = ServiceAccount.for_folder(folder, programs)
        account.own(folder)
        account.run([programs / "initdb", "-D", data, "-U", "supabase_admin", "-E", "UTF8", "--locale=C"], cwd=folder)
        every = {"listen_addresses": "", "unix_socket_directories": str(folder), **(settings or {})}
        options = " ".join(f"-c {name}='{value}'" for name, value in every.items())
        account.run([programs / "pg_ctl", "start", "-D", data, "-l", folder / "log", "-o", options, "-w"], cwd=folder)
        try:
            yield f"postgresql://supabase_admin@/postgres?host={folder}"
        finally:
            account.run([programs / "pg_ctl", "stop", "-D", data, "-m", "immediate", "-w"], cwd=folder)


def run_tests(programs: Path, arguments: list[str]) -> int:
    """Run the database and flow tests there; return pytest's exit code."""
    with throwaway_server(programs) as dsn:
        tests = arguments or ["tests/database", "tests/flow"]
        environment = {**os.environ, OTHER_SERVER: dsn}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "0", *tests], env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(run_tests(Path(sys.argv[1]), sys.argv[2:]))
