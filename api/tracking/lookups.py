"""Questions after orders, many at a time: whoever comes while some are being asked goes with the next.

A call of the database costs more than what it is asked. So one is under way at a time, and asks for all that have come
meanwhile; no timer holds anybody back. The wait is bounded, and so is the memory.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from sync.database import Database, Row
from sync.deadline import within
from sync.errors import Retry, SyncError

GROUP = 200
"""So many are asked for at once: some ten milliseconds of Postgres' time."""

WAITING = 2000
"""More do not wait; at the rate of the database it is a second's worth."""

PATIENCE_SECONDS = 3.0


class Question(NamedTuple):
    """An order that somebody asks for, as `mirror.track_orders` takes it."""

    store: str
    code: str
    proof: str
    phone: str


class Lookups:
    """Asks on behalf of many callers. Close it before its database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[Question, asyncio.Future[Row | None]]] = deque()
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Row | None:
        """Return the row of a question; None if there is none.

        Raises:
            Retry: the database is away, or more ask than it can answer.
            Reject: the database refuses this question.
        """
        if len(self._waiting) >= WAITING:
            raise Retry("more customers ask than the database can answer")
        answer: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        return await answer

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._asking is not None:
            await self._asking

    async def _ask_all(self) -> None:
        while self._waiting:
            # Those who come in the same turn of the loop go together.
            await asyncio.sleep(0)
            group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            await self._answer([each for each in group if not each[1].done()])  # who went away is done

    async def _answer(self, group: list[tuple[Question, "asyncio.Future[Row | None]"]]) -> None:
        """Answer every caller of a group; never raises."""
        try:
            rows = await self._rows([question for question, _ in group])
        except Retry as error:
            # The database is away: those who wait would only find out later.
            _fail([*group, *self._waiting], error)
            self._waiting.clear()
        except Exception as error:
            if len(group) == 1:
                _fail(group, error)
            else:
                for each in group:  # one of them is at fault, and fails alone
                    await self._answer([each])
        else:
            found = {row["question"]: row for row in rows}
            for number, (_, answer) in enumerate(group, 1):
                if not answer.done():
                    answer.set_result(found.get(number))

    async def _rows(self, questions: list[Question]) -> list[Row]:
        if not questions:
            return []
        stores, codes, proofs, phones = map(list, zip(*questions, strict=True))
        asking = self._database.rows("track_orders", p_stores=stores, p_codes=codes, p_proofs=proofs, p_phones=phones)
        return await within(PATIENCE_SECONDS, asking)


def _fail(group: Sequence[tuple[Question, "asyncio.Future[Row | None]"]], error: Exception) -> None:
    """Give each caller an error of its own: one that many raise collects the traceback of each."""
    for _, answer in group:
        if not answer.done():
            answer.set_exception(type(error)(error.reason) if isinstance(error, SyncError) else error)
