"""Child processes: killed, they come back; told to end, they end in order; run once, they say how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from sync.processes import Process
from tests.flow.serving import until


def child(*arguments: str, log_file: Path | None = None) -> Process:
    """Return a `mirror` command that needs no database."""
    return Process(arguments, {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}, log_file)


def pid_of(process: Process) -> int | None:
    found = process._child
    return found.pid if found and found.returncode is None else None


def runs(process: Process, other_than: int | None = None) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return pid_of(process) not in {None, other_than}

    return is_so


async def test_a_process_that_is_killed_or_restarted_comes_back_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    daemon = child("work", log_file=tmp_path / "work.log")
    assert not daemon.kill(), "it does not run yet"
    supervising = asyncio.create_task(daemon.keep_running())
    await until(runs(daemon))
    first = pid_of(daemon)
    assert daemon.kill()
    await until(runs(daemon, first))
    second = pid_of(daemon)
    await daemon.restart()
    assert second is not None
    assert not psutil.pid_exists(second)
    await until(runs(daemon, second))
    assert not daemon.has_ended, "it never ended by itself"
    supervising.cancel()
    await asyncio.gather(supervising, return_exceptions=True)
    assert pid_of(daemon) is None


async def test_a_process_that_is_run_to_its_end_tells_how_it_went(tmp_path: Path) -> None:
    assert await child("secret", log_file=tmp_path / "log").run_to_end() == 0
    assert (tmp_path / "log").read_text().startswith("whsec_")
    assert await child("no-such-command", log_file=tmp_path / "log").run_to_end() == 2
