"""Child processes that live and die with their parent: how `mirror up` runs the API and the daemon side by side.

A child that ends by itself is started again, after a wait. When the parent is told to stop, it passes that on
and waits. When the parent is killed outright, the pipe that is the child's standard input closes, and the child
stops by itself.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO

import structlog

log = structlog.get_logger()

SUPERVISED = "MIRROR_SUPERVISED"
"""Environment variable that tells a child to watch its standard input."""

RESTART_SECONDS = 1.0
STOP_SECONDS = 20.0
"""A child that takes longer to stop is killed; what it had in hand is taken up again later."""


class Process:
    """A `mirror` command in a child process."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log_file: Path | None = None) -> None:
        self._arguments = arguments
        self._environment = {**os.environ, **environment, SUPERVISED: "1"}
        self._log_file = log_file
        self._child: asyncio.subprocess.Process | None = None
        self.has_ended = False
        """Whether it ended by itself at least once."""
        self._is_told_to_end = False

    async def keep_running(self) -> None:
        """Run it, again whenever it ends, until cancelled; then stop it."""
        try:
            while True:
                code = await self._run()
                if not self._is_told_to_end:
                    self.has_ended = True
                    log.error("process.ended", command=self._arguments[0], exit_code=code, action="starting it again")
                self._is_told_to_end = False
                await asyncio.sleep(RESTART_SECONDS)
        finally:
            await self._stop()

    async def run_to_end(self) -> int:
        """Run it once; return its exit code. Cancelled, stop it."""
        try:
            return await self._run()
        finally:
            await self._stop()

    async def restart(self) -> None:
        """Stop it in order and wait until it has ended; `keep_running` starts it again."""
        self._is_told_to_end = True
        await self._stop()

    def kill(self) -> bool:
        """End it in the middle of whatever it does (SIGKILL), if it runs; `keep_running` starts it again."""
        if self._child is None or self._child.returncode is not None:
            return False
        self._is_told_to_end = True
        self._child.kill()
        return True

    async def _run(self) -> int:
        with self._output() as output:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sync",
                *self._arguments,
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return await self._child.wait()

    def _output(self) -> AbstractContextManager[IO[bytes] | None]:
        return self._log_file.open("ab") if self._log_file else nullcontext(None)

    async def _stop(self) -> None:
        child = self._child
        if child is None or child.returncode is not None:
            return
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), STOP_SECONDS)
        except TimeoutError:
            child.kill()
            await child.wait()


def stop_with_parent() -> None:
    """In a child: stop as if told to, as soon as the parent is gone."""
    if os.environ.get(SUPERVISED):
        threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
