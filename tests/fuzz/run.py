"""Spoilt deliveries at a running API, and what came of them.

The API runs in a process of its own and the inbox is drained to its end by the drain itself. What is looked at:

- Every request is answered, unless it broke off; none with 5xx.
- Each answer is one that the request's verdict allows; what was answered 202 is in the inbox, and nothing else.
- Draining ends. Each event is applied, or skipped or dead with a reason that is no fault of the mirror, or waits for
  another.
- Customers and orders come from events that are there.
- Then a hook still arrives, is applied, and the API is ready.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterator

import asyncpg
import msgspec

from api.limits.quotas import OFF, variable
from sync.database import connect
from sync.drain import Drain
from tests.factory import customer_changed
from tests.fuzz.deliveries import Deliveries, Delivery, signed_bytes
from tests.hooks import SECRET, body_of
from tests.raw_http import Answer, Line, request

NO_LIMITS = {variable(name): OFF for name in ("unsigned", "unsigned_at_one")}
"""For the API's environment: what is not signed shall be looked at each time, and not only counted."""

LINES = 32
ANSWER_SECONDS = 60.0
SHOWN = 20

STATES = """
    select state::text as state, reason, count(*) as events, min(event_id) as event_id
    from mirror.webhook_events group by 1, 2 order by 3 desc
"""
ROWS = "select source_id from public.customers union select source_id from public.customer_orders_summary"
IDS = re.compile(r'"(?:id|entityId)"\s*:\s*("(?:[^"\\]|\\.)*")')
WAITS = "for now"
"""Of an event that waits for another, as its reason says; that other one will never come."""


class Findings(msgspec.Struct):
    """What was sent, what was answered, and what is wrong."""

    answers: Counter[tuple[str, int]] = msgspec.field(default_factory=Counter)
    faults: list[str] = []
    stored: set[str] = set()
    """Events that were answered 202."""
    seconds: float = 0.0
    states: dict[str, int] = {}

    def blame(self, fault: str) -> None:
        if len(self.faults) < SHOWN:
            self.faults.append(fault)


async def fuzz(address: str, dsn: str, *, count: int, seed: int) -> Findings:
    """Send so many spoilt deliveries to the API at `address`, over the database `dsn`."""
    findings = Findings()
    deliveries = Deliveries(seed).take(count)
    started = time.monotonic()
    await asyncio.gather(*(_send_all(Line(address), deliveries, findings) for _ in range(LINES)))
    findings.seconds = time.monotonic() - started
    connection = await asyncpg.connect(dsn)
    try:
        await _look_at_inbox(connection, findings)
        await _drain(dsn, connection, findings)
        await _go_on(address, dsn, connection, findings)
    finally:
        await connection.close()
    return findings


async def _send_all(line: Line, deliveries: Iterator[Delivery], findings: Findings) -> None:
    for delivery in deliveries:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await (line.send(delivery.data) if delivery.is_whole else line.send_and_end(delivery.data))
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            line.close()
            if delivery.is_whole:
                findings.blame(f"{delivery.kind}: no answer ({type(error).__name__}) to {delivery.data[:300]!r}")
            continue
        _judge(delivery, answer, findings)
    line.close()


def _judge(delivery: Delivery, answer: Answer, findings: Findings) -> None:
    findings.answers[delivery.kind, answer.status] += 1
    verdict = delivery.verdict
    is_taken = answer.status == 202
    if answer.status >= 500:
        findings.blame(f"{delivery.kind}: {answer.status} to {delivery.data[-700:]!r}")
    elif not (verdict.may_be_taken if is_taken else verdict.may_be_refused):
        what = "taken" if is_taken else f"refused with {answer.status} {answer.body[:200]!r}"
        findings.blame(f"{delivery.kind}: wrongly {what}: {delivery.data[-700:]!r}")
    if is_taken:
        findings.stored |= verdict.events


async def _look_at_inbox(connection: asyncpg.Connection, findings: Findings) -> None:
    found = {row[0] for row in await connection.fetch("select event_id from mirror.webhook_events")}
    if found - findings.stored:
        findings.blame(f"stored, and should not be: {sorted(found - findings.stored)[:SHOWN]}")
    if findings.stored - found:
        findings.blame(f"answered 202, and not stored: {sorted(findings.stored - found)[:SHOWN]}")


async def _drain(dsn: str, connection: asyncpg.Connection, findings: Findings) -> None:
    async with connect(dsn) as database:
        await Drain(database).run()
    for row in await connection.fetch(STATES):
        findings.states[row["state"]] = findings.states.get(row["state"], 0) + row["events"]
        reason = row["reason"] or ""
        is_proper = reason and "fault of the mirror" not in reason and (row["state"] != "pending" or WAITS in reason)
        if row["state"] != "applied" and not is_proper:
            findings.blame(f"drained, {row['events']} events are {row['state']}: {reason} ({row['event_id']})")
    payloads = await connection.fetch("select payload from mirror.webhook_events where state = 'applied'")
    told = {text for row in payloads for text in _ids_in(row["payload"])}
    if strangers := {row["source_id"] for row in await connection.fetch(ROWS)} - told:
        findings.blame(f"rows of which no event told: {sorted(strangers)[:SHOWN]}")


def _ids_in(payload: str) -> Iterator[str]:
    """Yield each `id` and `entityId` in a document, however deep it is and whatever else it holds."""
    yield from (json.loads(text) for text in IDS.findall(payload))


async def _go_on(address: str, dsn: str, connection: asyncpg.Connection, findings: Findings) -> None:
    """Send one more hook, as every day."""
    line = Line(address)
    body = body_of(customer_changed("after", 1))
    headers = signed_bytes(body, SECRET, "msg_after", int(time.time()))
    answers = [
        await line.send(request("POST", "/hooks/vendure", headers, body)),
        await line.send(request("GET", "/health/ready", {})),
    ]
    line.close()
    if [answer.status for answer in answers] != [202, 200]:
        findings.blame(f"after all that: {answers}")
    async with connect(dsn) as database:
        counts = await Drain(database).run()
    if counts.applied != 1:
        findings.blame(f"after all that an event is not applied: {counts}")
