"""Wait for the database, but not for ever.

A connection may hang without an error: a network that swallows packets, a server that is frozen. Cancelling such a
call can hang as well, so the call is abandoned instead: cancelled, and left behind to end whenever it does.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sync.errors import Retry

T = TypeVar("T")

_abandoned: set[asyncio.Task[Any]] = set()


async def within(seconds: float, call: Coroutine[Any, Any, T]) -> T:
    """Return what the call returns; raise Retry if that takes longer than so many seconds."""
    task = asyncio.ensure_future(call)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        _abandon(task)
        raise
    if not done:
        _abandon(task)
        raise Retry(f"the database did not answer within {seconds:g} s")
    return task.result()


def _abandon(task: asyncio.Task[Any]) -> None:
    _abandoned.add(task)  # the loop itself holds tasks only weakly
    task.add_done_callback(_forget)
    task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as never retrieved
