"""How much memory a backfill takes: `mirror backfill` in a process of its own, reading the simulated Admin API."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from sync.storm.admin_api import API_KEY
from tests.hooks import SECRET
from tests.postgres import TestServer

LOOK_SECONDS = 0.1


def measure_memory(server: TestServer, template: str, orders: int) -> dict[str, float]:
    """Return the resident memory in MB: the peak, and what it was a tenth of the way and at the end.

    Raises:
        RuntimeError: the backfill was not complete.
    """
    name = server.create(template=template)
    with simulated_shop(orders) as address:
        resident = watch_backfill(server.owner(name), address)
    server.drop(name)
    return {
        "daemon_rss_mb": max(resident),
        "daemon_rss_mb_at_10": resident[len(resident) // 10],
        "daemon_rss_mb_at_100": resident[-1],
    }


@contextmanager
def simulated_shop(orders: int) -> Iterator[str]:
    """Serve the Admin API of a shop with so many orders; give its address."""
    command = [sys.executable, "-m", "sync.storm.server", "--orders", str(orders)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().split()[-1]
        finally:
            child.terminate()


def watch_backfill(dsn: str, address: str) -> list[float]:
    """Backfill all; return the resident memory in MB, look after look."""
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "VENDURE_HOOK_SECRETS": SECRET,
        "VENDURE_API_URL": address,
        "VENDURE_API_KEY": API_KEY,
    }
    command = [sys.executable, "-m", "sync", "backfill", "vendure"]
    resident = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            if taken := _resident(process):
                resident.append(taken / 2**20)
            time.sleep(LOOK_SECONDS)
    if child.returncode:
        raise RuntimeError(f"the backfill ended with {child.returncode}")
    return resident


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
