"""Each kind of event that Stripe sends, in its documented shape, and the rows that it becomes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from sync.database import connect
from tests.account import EVENTS, OTHER_SECRET, SECRET, StripeMirror, body_of, known, signed
from tests.flow.serving import serving
from tests.hooks import SECRET as VENDURE_SECRET
from tests.postgres import TestServer

REGISTERS = {"provider_payments": "mirror", "provider_refunds": "mirror"}
PROVIDER = [f"{schema}.{table}" for table, schema in REGISTERS.items()]
NAMES = sorted(path.stem for path in EVENTS.glob("*.json"))


TABLES = ("mirror.webhook_events", "public.refunds", "public.payments", "public.invoices", "public.subscriptions")
EMPTY = "; ".join(
    [
        "update mirror.webhook_events set state = 'applied', settled_at = now() where state <> 'applied'",
        *(f"delete from {table}" for table in (*TABLES, "public.subscription_plans", *PROVIDER)),
    ]
)


@pytest.fixture(scope="module")
def shared(server: TestServer, migrated_template: str) -> Iterator[str]:
    """A database for all of these tests, one after the other: there are many of them, and each is small."""
    name = server.create(template=migrated_template)
    yield server.owner(name)
    server.drop(name)


@pytest.fixture
async def account(shared: str) -> AsyncIterator[StripeMirror]:
    connection = await asyncpg.connect(shared)
    await connection.execute(EMPTY)
    async with connect(shared) as door:
        yield await StripeMirror.over(door, connection)
    await connection.close()


async def rows(account: StripeMirror, table: str) -> list[dict[str, Any]]:
    """Return all that a table holds, amounts as they are written."""
    schema = REGISTERS.get(table, "public")
    found = await account.column(f"select to_jsonb(t)::text from {schema}.{table} t order by t.source_id")
    return [json.loads(row, parse_float=Decimal, parse_int=Decimal) for row in found]


def as_expected(row: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Return what a row has of the columns that are expected, amounts as text where they are."""
    return {
        name: str(row[name]) if isinstance(row[name], Decimal) and isinstance(value, str) else row[name]
        for name, value in expected.items()
    }


@pytest.mark.parametrize("name", NAMES)
async def test_an_event_becomes_rows_or_says_why_not(account: StripeMirror, name: str) -> None:
    file = known(name)
    expected = file["expected"]
    await account.take(file["event"])
    (state,) = await account.events("state")
    (reason,) = await account.events("reason")
    for table, wanted in expected.get("rows", {}).items():
        found = await rows(account, table)
        assert [as_expected(row, one) for row, one in zip(found, wanted, strict=True)] == wanted
    if "skipped" in expected:
        assert (state, reason) == ("skipped", expected["skipped"])
    elif "rows" in expected:
        assert (state, reason) == ("applied", None)
    else:  # it has to be asked for, and there is nothing to ask with
        assert state == "pending"
        assert reason.endswith("set STRIPE_API_KEY where the daemon runs")


async def test_its_hooks_come_over_http_with_either_of_two_secrets(
    shared: str, account: StripeMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_HOOK_SECRETS", f"{OTHER_SECRET},{SECRET}")
    monkeypatch.setenv("VENDURE_HOOK_SECRETS", VENDURE_SECRET)
    body = body_of(known("invoice.paid")["event"])
    async with serving(shared) as api:
        answers = [
            await api.post("/hooks/stripe", content=body, headers=headers)
            for headers in (signed(body, SECRET), signed(body, OTHER_SECRET), signed(body, "whsec_forged"), {})
        ]
    assert [answer.status_code for answer in answers] == [202, 202, 401, 401]
    assert [answer.json().get("accepted") for answer in answers] == [1, 0, None, None]
    assert (await account.drain().run()).applied == 1
