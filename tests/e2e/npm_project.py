"""Install a small npm project of the tests: once, and again when its lock file has changed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.e2e.node import node


def install(project: Path) -> Path:
    """Run `npm ci` in the project unless what is there is newer than its lock file; return `node_modules`."""
    installed = project / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (project / "package-lock.json").stat().st_mtime:
        _npm_ci(project)
    return project / "node_modules"


def environment() -> dict[str, str]:
    """The environment with our Node first in the path."""
    return {**os.environ, "PATH": f"{node().parent}{os.pathsep}{os.environ['PATH']}"}


def _npm_ci(project: Path) -> None:
    command = [str(node().parent / "npm"), "ci"]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`npm ci` failed in {project}:\n{done.stdout}\n{done.stderr}")
