"""Codes: six digits that nobody can guess, and the hash by which one is known again.

bcrypt takes its time on purpose, so it runs in threads of its own, which take no processor from the event loop. When
too many wait, whoever comes is told to come back.
"""

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from sync.errors import Retry

T = TypeVar("T")

DIGITS = 6
MAX_WAITING = 32
NICENESS = 10
SESSION_BYTES = 32


def new_code() -> str:
    """Return six digits from the system's generator, each code as likely as any other."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"


def new_session() -> str:
    """Return the id of a session: whoever holds it may try codes."""
    return secrets.token_urlsafe(SESSION_BYTES)


class Hashes:
    """bcrypt, beside the event loop, on half of the processors at the most."""

    def __init__(self, *, cost: int) -> None:
        self._cost = cost
        self._threads = ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2), "bcrypt", initializer=_stand_back)
        self._waiting = 0

    def require_room(self) -> None:
        """Raise Retry if so many wait that another would wait too long."""
        if self._waiting >= MAX_WAITING:
            raise Retry("too many codes are being hashed")

    async def hashed(self, code: str) -> str:
        """Return the hash of a code."""
        return (await self._run(lambda: bcrypt.hashpw(code.encode(), bcrypt.gensalt(self._cost)))).decode()

    async def match(self, code: str, otp_hash: str) -> bool:
        """Tell whether a hash is this code's."""
        return await self._run(lambda: bcrypt.checkpw(code.encode(), otp_hash.encode()))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _stand_back() -> None:
    """Let whatever else wants the processor have it first. On Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
