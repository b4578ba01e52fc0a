"""Install a small npm project of the tests, whose few packages its `package.json` names by exact version."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.node import npm


def install(project: Path) -> Path:
    """Run `npm install` unless what is there is newer than what the project names; return `node_modules`."""
    installed = project / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (project / "package.json").stat().st_mtime:
        npm("install", cwd=project)
    return project / "node_modules"
