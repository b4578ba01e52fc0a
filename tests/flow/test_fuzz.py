"""Spoilt deliveries: a thousand of the hundred thousand that `task test:fuzz` sends."""

from __future__ import annotations

import httpx

from tests.fuzz.run import fuzz


async def test_of_a_thousand_spoilt_deliveries_those_are_stored_that_are_signed_and_readable(
    api: httpx.AsyncClient, database: str
) -> None:
    findings = await fuzz(str(api.base_url), database, count=1000, seed=7)
    assert findings.faults == []
    assert len({kind for kind, _ in findings.answers}) > 15
    assert findings.states["applied"] > 100
