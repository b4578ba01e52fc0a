"""Questions after orders, many at a time: each gets its own answer, and none waits behind a fault of another's."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from api.tracking import lookups
from api.tracking.lookups import Lookups, Question
from sync.database import connect
from sync.errors import Reject, Retry
from tests.factory import order_changed
from tests.flow.proxy import Proxy
from tests.mirror import Mirror


def question(code: str) -> Question:
    return Question("default", code, "link", "")


@pytest.fixture(autouse=True)
async def orders(mirror: Mirror) -> None:
    await mirror.take(*(order_changed(str(number), 1) for number in range(50)))


async def test_many_at_once_are_a_few_calls_and_each_gets_its_own(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(database) as door:
        calls = 0
        rows = door.rows

        async def counted(function: str, **arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            return await rows(function, **arguments)

        monkeypatch.setattr(door, "rows", counted)
        asked = Lookups(door)
        found = await asyncio.gather(*(asked.ask(question(f"CODE{number}")) for number in range(100)))
        assert [row is not None for row in found] == [True] * 50 + [False] * 50
        assert all(f'"CODE{number}"' in row["told"] for number, row in enumerate(found) if row)
        assert calls <= 3


async def test_a_question_that_is_refused_fails_alone(database: str) -> None:
    async with connect(database) as door:
        asked = Lookups(door)
        answers = await asyncio.gather(
            *(asked.ask(question(code)) for code in ("CODE1", "\0", "CODE2")), return_exceptions=True
        )
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [Reject]
        assert isinstance(answers[1], Reject)


async def test_who_goes_away_takes_nobody_along(database: str) -> None:
    async with connect(database) as door:
        asked = Lookups(door)
        asking = [asyncio.create_task(asked.ask(question("CODE1"))) for _ in range(20)]
        await asyncio.sleep(0)
        for task in asking[::2]:
            task.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
        assert not any(isinstance(answer, BaseException) for answer in answers[1::2])


async def test_a_database_that_is_silent_keeps_nobody_waiting_long(
    network: Proxy, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(lookups, "GROUP", 5)
    async with connect(network.dsn) as door:
        asked = Lookups(door)
        await asked.ask(question("CODE1"))
        network.swallow_answers()
        started = time.monotonic()
        answers = await asyncio.gather(*(asked.ask(question("CODE1")) for _ in range(50)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {Retry}
        assert time.monotonic() - started < 3
        network.mend()


async def test_only_so_many_wait(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "WAITING", 3)
    async with connect(database) as door:
        asked = Lookups(door)
        answers = await asyncio.gather(*(asked.ask(question("CODE1")) for _ in range(5)), return_exceptions=True)
        assert [isinstance(answer, Retry) for answer in answers] == [False] * 3 + [True] * 2
