"""How much to ask of a shop at once, and how often side by side: learned from its answers.

A page grows while answers are quick, shrinks while they are slow, and halves when there is none. Told to come less
often (429), half of the lanes are closed; they open again, one by one, after many good answers.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sync.engines.vendure.admin_api import TooMuch, TooOften

QUICK_SECONDS = 0.5
SLOW_SECONDS = 2.0
ANSWERS_FOR_A_LANE = 50


class Pace:
    """How many entities to ask for next time, in how many lanes: never less than one."""

    def __init__(self, first: int, most: int, lanes: int = 1) -> None:
        self.size = first
        self.lanes = lanes
        self._most = most
        self._most_lanes = lanes
        self._good_answers = 0

    @contextmanager
    def asking_for(self, asked: int) -> Iterator[None]:
        """Learn from how it goes to ask for so many entities."""
        started = time.monotonic()
        try:
            yield
        except TooOften:
            self._good_answers = 0
            self.lanes = max(1, self.lanes // 2)
            raise
        except TooMuch:  # several lanes may say so of one size: it is halved once
            self.size = min(self.size, max(1, asked // 2))
            raise
        self._answered(asked, time.monotonic() - started)

    def _answered(self, asked: int, seconds: float) -> None:
        if seconds > SLOW_SECONDS:
            self.size = min(self.size, max(1, asked * 3 // 4))
        elif seconds < QUICK_SECONDS:
            self.size = max(self.size, min(self._most, asked + asked // 2 + 1))
        self._good_answers += 1
        if self._good_answers >= ANSWERS_FOR_A_LANE:
            self._good_answers = 0
            self.lanes = min(self._most_lanes, self.lanes + 1)
