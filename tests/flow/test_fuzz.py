"""Spoilt deliveries: a thousand of the hundred thousand that `task test:fuzz` sends."""

from __future__ import annotations

import pytest

from tests.flow.serving import serving
from tests.fuzz.run import NO_LIMITS, fuzz


async def test_of_a_thousand_spoilt_deliveries_those_are_stored_that_are_signed_and_readable(
    database: str, secrets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in NO_LIMITS.items():
        monkeypatch.setenv(name, value)
    async with serving(database) as api:
        findings = await fuzz(str(api.base_url), database, count=1000, seed=7)
    assert findings.faults == []
    assert len({kind for kind, _ in findings.answers}) > 15
    assert findings.states["applied"] > 100
