"""Texts on their way: through the first driver that takes them, and noted as it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

import asyncpg
import httpx
import pytest

from api.settings import Route
from api.sms import outbox as outbox_module
from api.sms.base import Refused, Unavailable, Undeliverable
from api.sms.outbox import MAX_AT_ONCE, MAX_WAITING, Outbox, Outcome, Sms
from sync.database import Database, connect
from sync.errors import Retry

PHONE = "94771234567"
TEXT = "012345 is your code " * 10
"""Two messages."""


class Provider:
    """A driver whose provider takes texts, or does with them what the test says."""

    VARIABLES: ClassVar[Mapping[str, str]] = {}

    def __init__(self, error: Exception | None = None, *, gate: asyncio.Event | None = None) -> None:
        self.error = error
        self.gate = gate
        self.sent: list[tuple[str, str]] = []
        self.at_once = self.most_at_once = 0

    async def send(self, _client: httpx.AsyncClient, phone: str, text: str) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            self.sent.append((phone, text))
        finally:
            self.at_once -= 1


@pytest.fixture
async def door(database: str) -> AsyncIterator[Database]:
    async with connect(database) as opened:
        yield opened


Opened = Callable[..., Outbox]


@pytest.fixture
async def opened(door: Database) -> AsyncIterator[Opened]:
    """Make an outbox that sends through these drivers, at 1, 2, 3 … a message."""
    made: list[Outbox] = []

    def open_outbox(*drivers: Provider) -> Outbox:
        routes = [Route(f"driver {number}", driver, Decimal(number)) for number, driver in enumerate(drivers, 1)]
        made.append(Outbox(routes, door))
        return made[-1]

    yield open_outbox
    for each in made:
        await each.close()


async def requested(door: Database, number: int = 0) -> Sms:
    """Ask the database for a text."""
    (answer,) = await door.rows(
        "request_sms", p_store_slug="default", p_phone=f"9477{number:03}4567", p_country="LK",
        p_message_id=f"message {number}", p_segments=2, p_segment_price=Decimal(1),
    )  # fmt: skip
    return Sms(answer["delivery_id"], f"9477{number:03}4567", TEXT)


async def noted(connection: asyncpg.Connection, delivery: UUID) -> tuple[str, str, Decimal, str | None]:
    row = await connection.fetchrow("select * from mirror.sms_deliveries where id = $1", delivery)
    assert row is not None
    return row["outcome"], row["driver"], row["cost"], row["reason"]


CASES: dict[str, tuple[list[Exception | None], tuple[str, str, int, str | None]]] = {
    "the first takes it": ([None, None], ("sent", "driver 1", 2, None)),
    "the next takes it": ([Unavailable("busy"), None], ("sent", "driver 2", 4, "driver 1: busy")),
    "one is set up wrongly": ([Refused("no credit"), None], ("sent", "driver 2", 4, "driver 1: no credit")),
    "it was perhaps sent twice": (
        [Unavailable("silent", may_have_sent=True), None], ("sent", "driver 2", 6, "driver 1: silent"),
    ),
    "nobody can bring it": ([Undeliverable("a landline"), None], ("failed", "driver 1", 0, "driver 1: a landline")),
    "nobody takes it": (
        [Unavailable("busy"), Refused("no key")], ("failed", "driver 2", 0, "driver 1: busy; driver 2: no key"),
    ),
    "nobody knows": (
        [Unavailable("silent", may_have_sent=True), Refused("no key")],
        ("unknown", "driver 2", 2, "driver 1: silent; driver 2: no key"),
    ),
    "a driver breaks": (
        [KeyError(TEXT), None], ("sent", "driver 2", 6, "driver 1: broke on its answer: KeyError"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_a_text_goes_through_the_first_driver_that_takes_it(
    opened: Opened, door: Database, connection: asyncpg.Connection, case: str
) -> None:
    errors, (outcome, driver, cost, reason) = CASES[case]
    drivers = [Provider(error) for error in errors]
    sms = await requested(door)
    await opened(*drivers).begin(sms)
    assert await noted(connection, sms.delivery_id) == (outcome, driver, Decimal(cost), reason)
    assert sum(len(each.sent) for each in drivers) == (outcome == "sent")
    spent = await connection.fetchval("select used from mirror.otp_usage where scope = 'budget day'")
    assert spent == cost


async def test_a_provider_that_never_answers_is_given_up(
    opened: Opened, door: Database, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "DRIVER_SECONDS", 0.05)
    silent, other = Provider(gate=asyncio.Event()), Provider()
    sms = await requested(door)
    outcome: Outcome = await opened(silent, other).begin(sms)
    assert (outcome.outcome, outcome.driver) == ("sent", "driver 2")
    assert "did not answer within" in (outcome.reason or "")


async def test_only_so_many_texts_go_out_at_once_and_only_so_many_wait(opened: Opened, door: Database) -> None:
    gate = asyncio.Event()
    provider = Provider(gate=gate)
    outbox = opened(provider)
    tasks = [outbox.begin(Sms(UUID(int=number), PHONE, TEXT)) for number in range(MAX_WAITING)]
    await asyncio.sleep(0.1)
    with pytest.raises(Retry):
        outbox.require_room()
    assert provider.most_at_once == MAX_AT_ONCE
    gate.set()
    await asyncio.gather(*tasks)
    assert provider.most_at_once == MAX_AT_ONCE
    outbox.require_room()


async def test_what_is_under_way_is_sent_before_the_outbox_closes(
    opened: Opened, door: Database, connection: asyncpg.Connection
) -> None:
    gate = asyncio.Event()
    outbox = opened(Provider(gate=gate))
    sms = await requested(door)
    outbox.begin(sms)
    asyncio.get_running_loop().call_later(0.2, gate.set)
    await outbox.close()
    assert (await noted(connection, sms.delivery_id))[0] == "sent"


async def test_a_text_whose_code_cannot_be_kept_is_not_sent(
    opened: Opened, door: Database, connection: asyncpg.Connection
) -> None:
    async def fail() -> None:
        raise Retry("the database is away")

    provider = Provider()
    sms = await requested(door)
    await opened(provider).begin(sms, first=fail())
    assert (await noted(connection, sms.delivery_id))[0] == "failed"
    assert provider.sent == []
