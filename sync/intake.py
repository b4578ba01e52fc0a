"""The way into the inbox for many at a time: group commit.

A commit costs the same for one event as for a thousand. So whoever comes while a commit is under way waits for it to
end, and then all that wait are stored by the next one. No timer holds anyone back, and exactly one commit is under
way. It promises:

- `accept` returns only after the commit, and to each caller its own result.
- One refused request fails alone: a group that the database refuses is stored again caller by caller.
- The wait is bounded, and so is the memory: too long or too many, and the caller is told to try again later.
- A caller that goes away takes nobody with it. What it sent may be stored nevertheless; sent again, it is a duplicate.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from uuid import UUID

import msgspec

from sync import inbox
from sync.database import Database
from sync.deadline import within
from sync.engines.base import Event
from sync.errors import Retry, SyncError

GROUP_EVENTS = 1000
GROUP_BYTES = 8 * 2**20
"""A group ends with the request that reaches either: some ten milliseconds of Postgres' time."""

WAITING_BYTES = 64 * 2**20
"""More than this does not wait in memory; at the rate of the inbox it is more than a few seconds' worth."""

PATIENCE_SECONDS = 5.0


class _Request(msgspec.Struct, eq=False):
    events: list[tuple[UUID, Event]]
    size: int
    request_id: str | None
    answer: "asyncio.Future[list[bool]]"


class Intake:
    """Accepts events on behalf of many callers. Close it before its database."""

    def __init__(
        self,
        database: Database,
        *,
        waiting_bytes: int = WAITING_BYTES,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._database = database
        self._waiting_bytes = waiting_bytes
        self._patience_seconds = patience_seconds
        self._waiting: deque[_Request] = deque()
        self._size = 0
        self._commits: asyncio.Task[None] | None = None

    async def accept(self, integration_id: UUID, events: Sequence[Event], request_id: str | None = None) -> list[bool]:
        """Store the events of one request, with its id; return for each whether it is new. Committed on return.

        Raises:
            Retry: the database is away, or more waits than can be stored in time. Nothing is known to be stored.
            Reject: the database refuses these events.
        """
        size = sum(memoryview(event.payload).nbytes for event in events)
        if self._size and self._size + size > self._waiting_bytes:
            raise Retry("more hooks arrive than the database can store")
        arriving = [(integration_id, event) for event in events]
        request = _Request(arriving, size, request_id, asyncio.get_running_loop().create_future())
        self._enqueue(request)
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await request.answer
        except TimeoutError:
            raise Retry("the database did not store the hook in time") from None

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._commits is not None:
            await self._commits

    def _enqueue(self, request: _Request) -> None:
        self._waiting.append(request)
        self._size += request.size
        if self._commits is None or self._commits.done():
            self._commits = asyncio.create_task(self._commit_all())

    async def _commit_all(self) -> None:
        while self._waiting:
            if group := self._next_group():
                await self._commit(group)

    def _next_group(self) -> list[_Request]:
        group: list[_Request] = []
        events = size = 0
        while self._waiting and events < GROUP_EVENTS and size < GROUP_BYTES:
            request = self._waiting.popleft()
            self._size -= request.size
            if not request.answer.done():  # its caller went away before its turn
                group.append(request)
                events += len(request.events)
                size += request.size
        return group

    async def _commit(self, group: list[_Request]) -> None:
        """Store a group and answer every caller in it; never raises."""
        try:
            stored = await self._store(group)
        except Retry as error:
            _fail(group, error)
        except Exception as error:
            if len(group) == 1:
                _fail(group, error)
            else:
                await self._commit_singly(group)
        else:
            _answer(group, stored)

    async def _commit_singly(self, group: list[_Request]) -> None:
        """Find out which request is at fault: one of them fails, whatever the reason."""
        for request in group:
            await self._commit([request])

    async def _store(self, group: list[_Request]) -> list[bool]:
        events = [event for request in group for event in request.events]
        request_ids = [request.request_id for request in group for _ in request.events]
        return await within(self._patience_seconds, inbox.accept(self._database, events, request_ids))


def _answer(group: list[_Request], stored: list[bool]) -> None:
    position = 0
    for request in group:
        if not request.answer.done():
            request.answer.set_result(stored[position : position + len(request.events)])
        position += len(request.events)


def _fail(group: list[_Request], error: Exception) -> None:
    for request in group:
        if not request.answer.done():
            request.answer.set_exception(_copied(error))


def _copied(error: Exception) -> Exception:
    """Give each caller an error of its own: one that many raise collects the traceback of each."""
    return type(error)(error.reason) if isinstance(error, SyncError) else error
