"""Rate limits: counted for all processes together, and never for hooks with a right signature."""

from __future__ import annotations

import asyncio
from collections import Counter as Counted
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from api.limits.counter import Counter
from api.limits.quotas import Quota
from sync.database import connect
from sync.errors import Retry
from sync.settings import Address
from tests.factory import customer_changed, order_changed
from tests.flow.proxy import Proxy
from tests.flow.serving import HOOKS, post, serving
from tests.hooks import OTHER_SECRET, body_of, change, signed
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

TEN = Quota("ten", 10, 600)
FORTY = Quota("forty", 40, 600)


@pytest.fixture(autouse=True)
def proxy_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_TRUSTED_PROXIES", "127.0.0.1")


def by(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def granted(counter: Counter, quota: Quota, times: int, whose: str = "somebody") -> int:
    """Spend from a limit so often, all at once; return how often it was granted."""
    spent = await asyncio.gather(*(counter.spend(quota, whose) for _ in range(times)))
    return sum(each.is_granted for each in spent)


@both_doors
async def test_processes_share_a_limit(address: Address) -> None:
    async with connect(address) as database:
        counters = [Counter(database) for _ in range(3)]
        counts = await asyncio.gather(*(granted(counter, FORTY, 60) for counter in counters))
        assert FORTY.limit <= sum(counts) <= FORTY.limit + 2 * FORTY.free
        late = Counter(database)
        assert await granted(late, FORTY, 60) <= FORTY.free
        assert await granted(late, FORTY, 1, "somebody else") == 1


async def test_who_asks_rarely_costs_no_call_and_who_asks_too_much_a_few(
    database: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    async with connect(database) as door:
        rows = door.rows

        async def counted(function: str, **arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            return await rows(function, **arguments)

        monkeypatch.setattr(door, "rows", counted)
        counter = Counter(door)
        for number in range(200):
            assert await granted(counter, FORTY, FORTY.free, f"customer {number}") == FORTY.free
        assert calls == 0
        for _ in range(20):
            await granted(counter, FORTY, 50, "flood")
        assert calls <= 10
    assert await connection.fetchval("select count(*) from mirror.request_counts") == 1
    assert not await connection.fetchval("select exists (select from mirror.request_counts where subject ~ 'flood')")


async def test_when_the_time_is_over_it_begins_anew(database: str, connection: asyncpg.Connection) -> None:
    now = 0.0
    async with connect(database) as door:
        counter = Counter(door, clock=lambda: now)
        assert await granted(counter, TEN, 30) == 10
        assert await granted(counter, TEN, 5) == 0
        await connection.execute("update mirror.request_counts set ends_at = now()")
        now = 601.0
        assert await granted(counter, TEN, 30) == 10
        assert await connection.fetchval("select mirror.prune_request_counts()") == 0


async def guess(counter: Counter, quota: Quota, *, is_right: bool) -> bool:
    """Look for something; return whether one was let."""
    _, reserved = await counter.reserve(quota, "guesser")
    await asyncio.sleep(0.001)
    if reserved is not None:
        reserved.settle(counts=not is_right)
    return reserved is not None


async def test_however_many_come_at_once_those_who_hit_are_let_and_no_more_than_the_limit_miss(database: str) -> None:
    async with connect(database) as door:
        counter = Counter(door)
        assert all(await asyncio.gather(*(guess(counter, TEN, is_right=True) for _ in range(200))))
        mixed = [guess(counter, TEN, is_right=number % 2 == 0) for number in range(18)]
        assert sum(await asyncio.gather(*mixed)) == 18
        misses = await asyncio.gather(*(guess(counter, TEN, is_right=False) for _ in range(50)))
        assert sum(misses) == 1
        async with asyncio.timeout(5):
            assert not await guess(counter, TEN, is_right=True)


async def test_without_postgres_each_counts_by_itself_and_guessing_waits(network: Proxy) -> None:
    async with connect(network.dsn) as door:
        counter = Counter(door)
        network.cut()
        assert await granted(counter, TEN, 30) == 10
        assert await guess(counter, TEN, is_right=False)  # its free part
        with pytest.raises(Retry):
            await guess(counter, TEN, is_right=False)


async def test_unsigned_floods_are_turned_away_and_right_hooks_never(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIRROR_LIMIT_UNSIGNED", "16/600")
    forged = body_of(change("forged"))
    async with serving(database) as api:
        bare = [(await api.post(HOOKS, content=forged, headers=by("192.0.2.1"))).status_code for _ in range(20)]
        wrong = await api.post(HOOKS, content=forged, headers=signed(forged, OTHER_SECRET) | by("192.0.2.1"))
        right = await post(api, body_of(change("1")))
        body = body_of(change("2"))
        from_there = await api.post(HOOKS, content=body, headers=signed(body) | by("192.0.2.1"))
        elsewhere = await api.post(HOOKS, content=forged, headers=by("192.0.2.2"))
    assert (bare.count(401), bare.count(429), wrong.status_code) == (16, 4, 429)
    assert wrong.json()["code"] == "too-many-requests"
    assert 0 < int(wrong.headers["retry-after"]) <= 600
    assert wrong.headers["ratelimit-policy"] == '"unsigned";q=16;w=600'
    assert wrong.headers["ratelimit"].startswith('"unsigned";r=0;t=')
    assert (right.status_code, from_there.status_code, elsewhere.status_code) == (202, 202, 401)
    assert "".join(capfd.readouterr()).count("hook.refused") == 17


async def test_an_ipv6_network_is_one_requester(database: str, secrets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_LIMIT_CODES", "3/600")
    async with serving(database) as api:
        entered = {"session_id": "nobody-s", "code": "123456"}
        statuses = [
            (await api.post("/otp/verify", json=entered, headers=by(f"2001:db8:1:2::{n}"))).status_code
            for n in range(1, 5)
        ]
        other = await api.post("/otp/verify", json=entered, headers=by("2001:db8:1:3::1"))
    assert (statuses, other.status_code) == ([410, 410, 410, 429], 410)
    assert other.headers["ratelimit-policy"] == '"codes";q=3;w=600'


async def test_limits_can_be_turned_off(database: str, secrets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_LIMIT_CODES", "off")
    async with serving(database) as api:
        entered = {"session_id": "nobody-s", "code": "123456"}
        answers = [await api.post("/otp/verify", json=entered) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {410}
    assert "ratelimit" not in answers[0].headers


async def test_misses_are_limited_harder_than_hits_and_at_one_order_for_everybody(
    database: str, secrets: None, mirror: Mirror, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_LIMIT_GUESSES", "16/600")
    monkeypatch.setenv("MIRROR_LIMIT_GUESSES_AT_ONE", "24/600")
    await mirror.take(customer_changed("1", 1, phoneNumber="+94771234567"), order_changed("7", 1, customer={"id": "1"}))
    code = await connection.fetchval("select order_code from public.customer_orders_summary")
    right = "94771234567"
    async with serving(database) as api:

        async def ask(phones: Sequence[str], address: str) -> Counted[int]:
            path, headers = f"/orders/{code}", by(address)
            answers = await asyncio.gather(*(api.get(path, params={"phone": each}, headers=headers) for each in phones))
            return Counted(answer.status_code for answer in answers)

        assert await ask([right] * 60, "192.0.2.1") == {200: 60}
        assert await ask([f"9477{n:07}" for n in range(30)], "192.0.2.2") == {404: 16, 429: 14}
        assert await ask([right], "192.0.2.2") == {429: 1}
        assert await ask([right], "192.0.2.1") == {200: 1}
        assert await ask([f"9478{n:07}" for n in range(30)], "192.0.2.3") == {404: 8, 429: 22}
        assert await ask([right], "192.0.2.4") == {429: 1}


async def test_what_is_no_number_and_links_that_were_cut_off_keep_nobody_out(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_LIMIT_GUESSES_AT_ONE", "4/600")
    async with serving(database) as api:
        asked = [{"t": "1800000000.cut"}, {"phone": "me"}] * 5
        answers = await asyncio.gather(
            *(
                api.get(f"/orders/CODE{n}", params=proof, headers=by(f"192.0.2.{n}"))
                for n, proof in enumerate(asked, start=1)
            )
        )
    assert {answer.status_code for answer in answers} == {404}
