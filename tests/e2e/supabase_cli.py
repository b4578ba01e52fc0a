"""The real Supabase CLI, run on our project against a database that is not Supabase's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sync.migrate import supabase_folder
from tests.e2e.node import node

FOLDER = Path(__file__).parent / "supabase-cli"


def install(home: Path) -> Path:
    """Install the CLI unless it is there; return the folder that holds the command."""
    command = FOLDER / "node_modules" / ".bin" / "supabase"
    if not command.exists():
        _run([str(node().parent / "npm"), "ci"], FOLDER, home)
    return command


def copy_project(to: Path) -> Path:
    """Copy our Supabase project, so that what the CLI writes beside it is not written into the checkout."""
    shutil.copytree(supabase_folder(), to / "supabase")
    return to


def supabase(project: Path, dsn: str, *arguments: str) -> str:
    """Run the CLI on a project and a database; return what it printed.

    Raises:
        RuntimeError: it ended with an error; the message is what it printed.
    """
    command = install(project)
    return _run([str(command), *arguments, f"--remote={dsn}", "--yes"], project, project)


def _run(command: list[str], folder: Path, home: Path) -> str:
    # A home of its own: the CLI must not find anyone's login, nor leave one.
    search = f"{node().parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": search, "SUPABASE_HOME": str(home), "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command[:4])}` failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr
