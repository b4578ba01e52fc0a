"""Kills the mirror's processes and its Postgres while the storm lasts, one after the other.

Whatever dies comes back: processes by their supervisor, Postgres because we start it again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from sync.embedded import EmbeddedPostgres
from sync.processes import Process


class Havoc:
    """Kills something every so many seconds while `run` runs; each victim once before any comes again."""

    def __init__(self, server: EmbeddedPostgres, processes: Sequence[Process], seconds: float, *, seed: object) -> None:
        self.thrown: Counter[str] = Counter()
        self.has_struck_all = asyncio.Event()
        self._seconds = seconds
        self._choice = random.Random(f"{seed} havoc")  # noqa: S311 - no secret
        api, *daemons = processes
        self._blows: dict[str, Callable[[], Awaitable[None]]] = {
            "kill -9 of the API": lambda: _kill(api),
            "kill -9 of a daemon": lambda: _kill(self._choice.choice(daemons)),
            "kill -9 of all daemons": lambda: _kill(*daemons),
            "restart of Postgres": lambda: asyncio.to_thread(server.restart),
            "crash of Postgres": lambda: asyncio.to_thread(server.restart, crash=True),
        }

    async def run(self) -> None:
        """Strike until cancelled."""
        while True:
            names = list(self._blows)
            self._choice.shuffle(names)
            for name in names:
                await asyncio.sleep(self._seconds)
                await self._blows[name]()
                self.thrown[f"mirror: {name}"] += 1
            self.has_struck_all.set()


async def _kill(*processes: Process) -> None:
    for process in processes:
        process.kill()
