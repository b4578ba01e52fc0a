"""A hook that was answered is in the inbox, and one that was not can be sent again: whoever dies, and when."""

from __future__ import annotations

import asyncio

import asyncpg
import httpx
import pytest

from sync.settings import Address
from tests.flow.daemons import workers_waiting
from tests.flow.proxy import Proxy
from tests.flow.serving import post, process, until
from tests.hooks import body_of, change

FIRST = body_of(change("1"))
HOOK = body_of(change("2"), change("3"))


async def count(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("select count(*) from mirror.webhook_events"))


async def test_killed_between_commit_and_answer(database: str, network: Proxy, connection: asyncpg.Connection) -> None:
    async def is_committed() -> bool:
        return await count(connection) == 3

    async with process(network.dsn) as (api, client):
        await post(client, FIRST)
        network.swallow_answers()
        sending = asyncio.create_task(post(client, HOOK))
        await until(is_committed)
        assert not sending.done()
        api.kill()
        with pytest.raises(httpx.TransportError):
            await sending
    async with process(database) as (_, client):
        assert (await post(client, HOOK)).json() == {"accepted": 0, "duplicates": 2}
    assert await is_committed()


async def test_killed_before_the_commit(address: Address, connection: asyncpg.Connection) -> None:
    async with process(address) as (api, client):
        await post(client, FIRST)
        async with connection.transaction():
            await connection.execute("lock table mirror.webhook_events in exclusive mode")
            sending = asyncio.create_task(post(client, HOOK))
            await workers_waiting(connection)
            assert not sending.done()
            api.kill()
            with pytest.raises(httpx.TransportError):
                await sending
    async with process(address) as (_, client):
        answer = (await post(client, HOOK)).json()
    assert answer["accepted"] + answer["duplicates"] == 2
    assert await count(connection) == 3


async def test_two_processes_share_the_work(address: Address, connection: asyncpg.Connection) -> None:
    hooks = [body_of(*(change(f"{n}-{m}") for m in range(5))) for n in range(60)]
    async with process(address) as (_, first), process(address) as (_, second):
        answers = await asyncio.gather(*(post(client, hook) for hook in hooks for client in (first, second)))
    assert {answer.status_code for answer in answers} == {202}
    assert sum(answer.json()["accepted"] for answer in answers) == 300
    assert sum(answer.json()["duplicates"] for answer in answers) == 300
    assert await count(connection) == 300
