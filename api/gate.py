"""Only so many at once: whoever comes when it is full is told to come back, instead of waiting in a line that grows."""

from collections.abc import Iterator
from contextlib import contextmanager

from sync.errors import Retry


class Gate:
    """Lets so many in, at the most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Be inside for a while; raise Retry if it is full."""
        if self._inside >= self._limit:
            raise Retry("too many ask at once")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
