"""The real Supabase CLI, run on our project against a database that is not Supabase's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sync.migrate import supabase_folder
from tests.e2e.npm_project import install

FOLDER = Path(__file__).parent / "supabase-cli"


def copy_project(to: Path) -> Path:
    """Copy our Supabase project, so that what the CLI writes beside it is not written into the checkout."""
    shutil.copytree(supabase_folder(), to / "supabase")
    return to


def supabase(project: Path, dsn: str, *arguments: str) -> str:
    """Run the CLI on a project and a database; return what it printed.

    Raises:
        RuntimeError: it ended with an error; the message is what it printed.
    """
    command = [str(install(FOLDER) / ".bin" / "supabase"), *arguments, f"--remote={dsn}", "--yes"]
    # A home of its own: the CLI must not find anyone's login, nor leave one.
    variables = os.environ | {"SUPABASE_HOME": str(project), "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=project, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"`supabase {' '.join(arguments)}` failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr
