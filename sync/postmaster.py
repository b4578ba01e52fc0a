"""Which Postgres server runs on a data folder: what its `postmaster.pid` says, checked against the processes.

A pid file alone proves nothing: after a power cut or a container's restart its pid belongs to somebody else.
A server works in its data folder, so the process of that pid must be a Postgres whose working folder it is.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import psutil

SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # the protocol's smallest question


@dataclass(frozen=True)
class Postmaster:
    """A server as it describes itself; `status` is `starting`, `ready` or `stopping`."""

    pid: int
    port: int
    status: str


def running(data: Path) -> Postmaster | None:
    """Return the server that runs on this data folder, whoever started it."""
    found = _read(data)
    return found if found is not None and _works_in(found.pid, data) else None


def remove_stale_pid(data: Path) -> None:
    """Remove the pid file that a server left behind when it died, if its pid belongs to another process now.

    Only then, because in every other case Postgres does so itself, and looks first whether a backend of the
    dead server is still at work; so do we.
    """
    found = _read(data)
    if found is None or not psutil.pid_exists(found.pid):
        return
    if not any(_works_in(pid, data) for pid in psutil.pids()):
        (data / "postmaster.pid").unlink()


def answers(port: int) -> bool:
    """Ask whether Postgres would speak TLS: a server that was just killed is there for a moment, but dumb."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall(SSL_REQUEST)
            return probe.recv(1) in {b"S", b"N"}
    except OSError:
        return False


def _read(data: Path) -> Postmaster | None:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        status = lines[7].strip() if len(lines) > 7 else "starting"
        return Postmaster(int(lines[0]), int(lines[3]), status)
    except (FileNotFoundError, IndexError, ValueError):
        return None  # not there, or cut short


def _works_in(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name().startswith("postgres") and Path(process.cwd()) == data.resolve()
    except psutil.Error:
        return False
