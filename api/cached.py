"""A value of the database that hardly ever changes, kept for a short time.

Read by one at a time, however many ask. While the database is away the last value serves on; how it was before is the
best guess at how it is. A failed read is not repeated at once, so that nobody can hammer the database through us.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from sync.deadline import within
from sync.errors import Retry

T = TypeVar("T")

MAX_AGE_SECONDS = 30.0
PAUSE_SECONDS = 1.0
"""Two reads are at least so far apart, whatever is asked for."""
PATIENCE_SECONDS = 3.0


class Cached(Generic[T]):
    """The last value that `read` returned."""

    def __init__(
        self, read: Callable[[], Coroutine[Any, Any, T]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._turn = asyncio.Lock()
        self._values: list[T] = []
        self._read_at = self._tried_at = float("-inf")
        self._failure: Exception | None = None

    async def get(self) -> T:
        """Return a value at most 30 s old; an older one if the database is away; raise Retry if there is none."""
        if self._clock() - self._read_at <= MAX_AGE_SECONDS:
            return self._values[0]
        try:
            return await self.refreshed()
        except Retry:
            if not self._values:
                raise
            return self._values[0]

    async def refreshed(self) -> T:
        """Return a value at most a second old; raise what went wrong if that is not to be had."""
        async with self._turn:
            if self._clock() - self._tried_at >= PAUSE_SECONDS:
                await self._try()
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            return self._values[0]

    async def _try(self) -> None:
        try:
            self._values = [await within(PATIENCE_SECONDS, self._read())]
        except Exception as error:
            self._failure = error
        else:
            self._failure = None
            self._read_at = self._clock()
        self._tried_at = self._clock()
