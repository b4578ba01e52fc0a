"""The mirror as processes, as `mirror serve` and `mirror work` run them, and the questions that tests ask it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from sync.compare import Comparison, Documents, compare
from sync.database import connect
from sync.engines.base import Context
from sync.settings import CREDENTIALS, Credentials
from tests.e2e.databases import fetch
from tests.e2e.shop import free_port

START_SECONDS = 30
DRAIN_SECONDS = 60
STOP_SECONDS = 20
INTEGRATION = "vendure"


@dataclass
class Mirror:
    """API and daemon on one migrated database. Leases are short, so that a killed daemon's events return soon."""

    dsn: str
    secret: str
    logs: Path
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    credentials: Credentials | None = None
    """With which the daemon asks the shop, and tells it; None: it does neither."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/{INTEGRATION}"

    def start(self) -> None:
        self.start_api()
        self.start_daemon()

    def start_api(self) -> None:
        self._spawn("serve")
        _wait_until(self._answers, START_SECONDS, lambda: f"The API did not start:\n{self._said('serve')}")

    def start_daemon(self) -> None:
        self._spawn("work")

    def kill(self, command: str) -> None:
        """End a process as a power cut would."""
        process = self.processes.pop(command)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(STOP_SECONDS)
        self.processes.clear()

    def wait_until_drained(self) -> None:
        """Wait until every event in the inbox is settled; a dead letter is an error."""
        _wait_until(
            lambda: not self.status()["inbox"]["pending"],
            DRAIN_SECONDS,
            lambda: f"The inbox was not drained: {self.status()}\n{self._said('work')}",
        )
        if letters := self.status()["dead_letters"]:
            raise AssertionError(f"Some events could not be applied: {letters}")

    def wait_until_all_is_told(self) -> None:
        """Wait until the shop was told of everything that an admin has set."""
        waiting = "select payload, reason from mirror.outbox where state in ('pending', 'dead')"
        _wait_until(
            lambda: not fetch(self.dsn, waiting),
            DRAIN_SECONDS,
            lambda: f"The shop was not told: {fetch(self.dsn, waiting)}\n{self._said('work')}",
        )

    def wait_until_the_shop_is_asked(self) -> None:
        """Wait until a daemon has something in hand that the shop is to be told."""
        _wait_until(
            lambda: bool(fetch(self.dsn, "select from mirror.outbox where claimed_by is not null")),
            DRAIN_SECONDS,
            lambda: f"The shop is not asked:\n{self._said('work')}",
        )

    def status(self) -> dict[str, Any]:
        """What `mirror status --json` prints."""
        return asyncio.run(self._status())

    def compare(self, documents: dict[str, Any]) -> Comparison:
        """Hold the tables against what the Admin API says."""
        return asyncio.run(self._compare(msgspec.convert(documents, Documents)))

    def hashes(self, table: str) -> dict[str, str | None]:
        """The hash of the document that each live row of a table was made from, by the shop's id."""
        rows = fetch(self.dsn, f"select source_id, source_hash from {table} where deleted_at is null")
        return {row["source_id"]: row["source_hash"] for row in rows}

    async def _status(self) -> dict[str, Any]:
        async with connect(self.dsn, connections=1) as database:
            status: dict[str, Any] = msgspec.json.decode(await database.call("get_status"))
            return status

    async def _compare(self, documents: Documents) -> Comparison:
        async with connect(self.dsn, connections=1) as database:
            rows = await database.rows("list_integrations")
            row = next(row for row in rows if row["slug"] == INTEGRATION)
            context = Context(phone_region=row["phone_region"], money_precision=row["money_precision"])
            return await compare(database, row["id"], documents, context)

    def _spawn(self, command: str) -> None:
        environment = os.environ | {
            "DATABASE_URL": self.dsn,
            "VENDURE_HOOK_SECRETS": self.secret,
            "MIRROR_PORT": str(self.port),
            "MIRROR_LEASE_SECONDS": "2",
            "MIRROR_POLL_SECONDS": "0.2",
        }
        if self.credentials is not None:
            given = msgspec.structs.asdict(self.credentials)
            environment |= {f"VENDURE_{CREDENTIALS[name]}": value for name, value in given.items() if value}
        with self._log(command).open("ab") as log:
            self.processes[command] = subprocess.Popen(
                [sys.executable, "-m", "sync", command], env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def _log(self, command: str) -> Path:
        return self.logs / f"{command}.log"

    def _said(self, command: str) -> str:
        return self._log(command).read_text(errors="replace")[-6000:]


def _wait_until(reached: Callable[[], bool], seconds: float, complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise AssertionError(complaint())
        time.sleep(0.1)
