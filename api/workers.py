"""Several processes behind one socket: `mirror serve --workers N`, and how they are replaced without losing a request.

The supervisor holds the socket and serves nothing itself. Each worker is `python -m api` with that socket; one that
ends by itself is replaced. SIGHUP replaces all, one after the other: a new one is started, which loads whatever code is
installed by then; once it takes requests the old one is told to stop, and ends in order (api/server.py). If the new one
does not start, the old ones go on, and the log says why. When the supervisor is killed outright, its workers stop.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import cast

import structlog

from api.metrics import SHARED
from api.sockets import HANDED_OVER, address_of
from sync import links
from sync.processes import SUPERVISED

log = structlog.get_logger()

START_SECONDS = 60.0
"""A worker that does not take requests by then is given up."""

STOP_SECONDS = 40.0
"""One that has not ended so long after it was told to is killed; requests in hand are cut off long before."""

LOOK_SECONDS = 1.0
"""Between two looks whether one has ended; so a worker that cannot start is tried once in so long."""


class WorkersError(Exception):
    """The workers did not start; their log says why."""


class Workers:
    """So many processes that serve one socket."""

    def __init__(self, count: int, listening: socket.socket) -> None:
        self._count = count
        self._socket = listening
        self._serving: list[asyncio.subprocess.Process] = []
        self._all: set[asyncio.subprocess.Process] = set()
        """Those that start, serve or end."""
        self._ending: set[asyncio.Task[None]] = set()
        self._metrics = TemporaryDirectory(prefix="mirror-metrics-")
        self._environment = {
            SHARED: self._metrics.name,
            **os.environ,
            HANDED_OVER: str(listening.fileno()),
            SUPERVISED: "1",
            links.VARIABLE: os.environ.get(links.VARIABLE) or links.passing_secret(),  # one that all of them know
        }

    async def run(self, *, stop: asyncio.Event, roll: asyncio.Event, listening: Callable[[str], None]) -> None:
        """Serve until `stop` is set, replacing all workers whenever `roll` is. `listening` is called with the address.

        Raises:
            WorkersError: they do not start.
        """
        tending = asyncio.create_task(self._tend(roll, listening))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({tending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if tending.done():
                tending.result()
        finally:
            for task in (tending, stopping):
                task.cancel()
            await asyncio.gather(tending, stopping, return_exceptions=True)
            await asyncio.gather(*(self._end(worker) for worker in self._all))
            self._metrics.cleanup()

    async def _tend(self, roll: asyncio.Event, listening: Callable[[str], None]) -> None:
        begun = await asyncio.gather(*(self._begin() for _ in range(self._count)))
        self._serving = [worker for worker in begun if worker]
        if len(self._serving) < self._count:
            raise WorkersError("The API does not start: see above.")
        listening(address_of(self._socket))
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(roll.wait(), LOOK_SECONDS)
            if roll.is_set():
                roll.clear()
                await self._replace_all()
            await self._replace_ended()

    async def _replace_all(self) -> None:
        for position, old in enumerate(self._serving):
            new = await self._begin()
            if new is None:
                log.error("workers.not_replaced", action="those that serve go on; mend it and send SIGHUP again")
                return
            self._serving[position] = new
            self._ending.add(ending := asyncio.create_task(self._end(old)))  # beside what follows
            ending.add_done_callback(self._ending.discard)
        log.info("workers.replaced", workers=self._count)

    async def _replace_ended(self) -> None:
        for position, worker in enumerate(self._serving):
            if worker.returncode is not None:
                log.error("workers.ended", exit_code=worker.returncode, action="starting another")
                self._all.discard(worker)
                self._serving[position] = await self._begin() or worker

    async def _begin(self) -> asyncio.subprocess.Process | None:
        """Start a worker; return it once it takes requests, None if it does not."""
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api",
            env=self._environment,
            pass_fds=[self._socket.fileno()],
            stdin=asyncio.subprocess.PIPE,  # closes when we are gone
            stdout=asyncio.subprocess.PIPE,  # one line: it listens
            start_new_session=True,
        )
        self._all.add(worker)
        with suppress(TimeoutError):
            if await asyncio.wait_for(cast(asyncio.StreamReader, worker.stdout).readline(), START_SECONDS):
                return worker
        await self._end(worker)
        return None

    async def _end(self, worker: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            worker.terminate()
        try:
            await asyncio.wait_for(worker.wait(), STOP_SECONDS)
        except TimeoutError:
            worker.kill()
            await worker.wait()
        self._all.discard(worker)
