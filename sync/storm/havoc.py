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
    """Kills something every so many seconds while `run` runs; each victim once before any comes again.

    `processes` are the API, the daemons, and the backfill.
    """

    def __init__(self, server: EmbeddedPostgres, processes: Sequence[Process], seconds: float, *, seed: object) -> None:
        self.thrown: Counter[str] = Counter()
        self.has_struck_all = asyncio.Event()
        self._seconds = seconds
        self._choice = random.Random(f"{seed} havoc")  # noqa: S311 - no secret
        api, *daemons, backfill = processes
        self._blows: dict[str, Callable[[], Awaitable[bool]]] = {
            "kill -9 of the backfill": lambda: _kill(backfill),
            "kill -9 of the API": lambda: _kill(api),
            "kill -9 of a daemon": lambda: _kill(self._choice.choice(daemons)),
            "kill -9 of all daemons": lambda: _kill(*daemons),
            "restart of Postgres": lambda: _restart(server, crash=False),
            "crash of Postgres": lambda: _restart(server, crash=True),
        }

    async def run(self) -> None:
        """Strike until cancelled; the backfill first, before it is done."""
        names = list(self._blows)
        while True:
            for name in names:
                await asyncio.sleep(self._seconds)
                self.thrown[f"mirror: {name}"] += await self._blows[name]()
            self.has_struck_all.set()
            self._choice.shuffle(names)


async def _kill(*processes: Process) -> bool:
    """Kill processes; return whether any of them was alive."""
    return sum(process.kill() for process in processes) > 0


async def _restart(server: EmbeddedPostgres, *, crash: bool) -> bool:
    await asyncio.to_thread(server.restart, crash=crash)
    return True
