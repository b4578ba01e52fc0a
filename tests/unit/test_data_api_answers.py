"""What Supabase's Data API may answer beside a result, and what the mirror makes of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx

from sync.database import connect
from sync.errors import Await, Reject, Retry, SyncError, Unmigrated
from sync.settings import Project

PROJECT = Project("https://abc.supabase.co", "sb_secret_x")
CALL = "https://abc.supabase.co/rest/v1/rpc/mirror_call"


def fault(status: int, code: str | None, message: str, **headers: str) -> httpx.Response:
    body = {"code": code, "message": message, "details": "Key (email)=(nimal@example.com) exists.", "hint": "h"}
    return httpx.Response(status, json=body, headers=headers)


OLD_CODE = 'duplicate key value violates unique constraint "customer_orders_summary_order_code"'

ANSWERS: dict[str, tuple[httpx.Response, type[SyncError], str]] = {
    "a refusal": (fault(400, "P0001", "Not so."), Reject, "Not so. (SQLSTATE P0001)"),
    "a duplicate": (
        fault(409, "23505", 'duplicate key value violates unique constraint "x"'),
        Reject,
        'duplicate key value violates unique constraint "x" (SQLSTATE 23505)',
    ),
    "a code that is still another's": (
        fault(409, "23505", OLD_CODE),
        Await,
        "another order has this code for now: its own change has not arrived yet",
    ),
    "too long": (
        fault(500, "57014", "canceling statement due to statement timeout"),
        Retry,
        "canceling statement due to statement timeout (SQLSTATE 57014)",
    ),
    "no such function": (
        fault(404, "PGRST202", "Could not find the function public.mirror_call in the schema cache"),
        Unmigrated,
        "Could not find the function public.mirror_call in the schema cache (PGRST202)",
    ),
    "no connection to Postgres": (
        fault(503, "PGRST002", "Could not query the database for the schema cache. Retrying."),
        Retry,
        "SUPABASE_URL answers 503 Service Unavailable: Could not query the database for the schema cache. Retrying.",
    ),
    "the gateway's refusal of the key": (
        httpx.Response(401, json={"message": "Invalid API key"}),
        Retry,
        "SUPABASE_SECRET_KEY is refused: it must be a secret key (sb_secret_…) of the project of SUPABASE_URL",
    ),
    "PostgREST's refusal of the key": (
        fault(401, "42501", "permission denied for function mirror_call"),
        Retry,
        "SUPABASE_SECRET_KEY is refused: it must be a secret key (sb_secret_…) of the project of SUPABASE_URL",
    ),
    "another address of the gateway": (
        httpx.Response(404, json={"message": "no Route matched with those values"}),
        Retry,
        "SUPABASE_URL answers 404 Not Found: no Route matched with those values",
    ),
    "a gateway that finds nobody": (
        httpx.Response(502, html="<h1>Bad gateway</h1>"),
        Retry,
        "SUPABASE_URL answers 502 Bad Gateway",
    ),
    "a project that moved": (
        httpx.Response(308, headers={"location": "https://elsewhere.example.com"}),
        Retry,
        "SUPABASE_URL answers 308 Permanent Redirect",
    ),
    "somebody else's page": (
        httpx.Response(200, html="<h1>Hello</h1>"),
        Retry,
        "what answers at SUPABASE_URL is not a Supabase project's Data API",
    ),
}


async def asked(answer: httpx.Response | type[Exception]) -> Any:
    with respx.mock(assert_all_called=False) as network:
        how = {"return_value": answer} if isinstance(answer, httpx.Response) else {"side_effect": answer}
        network.post(CALL).mock(**how)
        async with connect(PROJECT) as door:
            return await door.rows("list_stores")


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_is_none_says_what_to_do(name: str) -> None:
    answer, kind, reason = ANSWERS[name]
    with pytest.raises(SyncError) as caught:
        await asked(answer)
    assert (type(caught.value), caught.value.reason) == (kind, reason)


async def test_a_busy_project_says_when_to_come_again() -> None:
    with pytest.raises(Retry) as caught:
        await asked(httpx.Response(429, headers={"retry-after": "7"}))
    assert caught.value.after == 7


@pytest.mark.parametrize("error", [httpx.ConnectTimeout, httpx.ReadTimeout, httpx.ReadError, httpx.PoolTimeout])
async def test_a_network_that_fails_is_tried_again(error: type[Exception]) -> None:
    with pytest.raises(Retry, match=f"cannot be reached: {error.__name__}"):
        await asked(error)
