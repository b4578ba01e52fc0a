"""The test shop as processes: a Vendure server and its worker, started, stopped and killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.e2e import node
from tests.e2e.databases import fetch, libpq_environment

START_SECONDS = 120
SEND_SECONDS = 60
STOP_SECONDS = 20


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Shop:
    """A shop on one database, posting its hooks to `hook_endpoint`, signed with `hook_secret`."""

    dsn: str
    logs: Path
    hook_endpoint: str
    hook_secret: str
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def shop_api(self) -> str:
        return f"http://127.0.0.1:{self.port}/shop-api"

    @property
    def admin_api(self) -> str:
        return f"http://127.0.0.1:{self.port}/admin-api"

    def populate(self) -> None:
        """Create the schema and the shop's base data in the empty database."""
        self._spawn("populate", SHOP_POPULATE="true")
        process = self.processes.pop("populate")
        if process.wait(START_SECONDS) != 0:
            raise RuntimeError(f"The shop could not be populated:\n{self._said('populate')}")

    def start(self) -> None:
        self.start_server()
        self.start_worker()

    def start_server(self) -> None:
        self._spawn("server")
        self._wait_until("server", self._server_answers)

    def start_worker(self) -> None:
        self._spawn("worker")
        self._wait_until("worker", lambda: "worker ready" in self._said("worker"))

    def wait_until_all_is_sent(self) -> None:
        """Wait until the plugin has no note left of a change that the receiver has not taken."""
        deadline = time.monotonic() + SEND_SECONDS
        while fetch(self.dsn, "select from customer_sync_note limit 1"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"The worker did not send all changes:\n{self._said('worker')}")
            time.sleep(0.03)

    def errors(self) -> list[str]:
        """What server and worker logged as errors since they were started last."""
        return [
            line
            for name in ("server", "worker")
            for line in self._log(name).read_text().splitlines()
            if line.startswith("error")
        ]

    def kill(self, name: str) -> None:
        """End a process as a power cut would."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def _spawn(self, name: str, **more: str) -> None:
        environment = os.environ | libpq_environment(self.dsn) | more
        environment |= {
            "SHOP_PORT": str(self.port),
            "HOOK_ENDPOINT": self.hook_endpoint,
            "HOOK_SECRET": self.hook_secret,
            "VENDURE_DISABLE_TELEMETRY": "true",
            "TZ": "UTC",
        }
        with self._log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [node.node(), f"{name}.js"],
                cwd=node.SHOP,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _said(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")[-6000:]

    def _server_answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def _wait_until(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The shop's {name} did not start:\n{self._said(name)}")
            time.sleep(0.1)
