"""`mirror events`: a person at a terminal finds what could not be applied, repairs it, and replays it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from sync.cli import main
from sync.settings import Address
from tests.factory import line, order_changed
from tests.flow.serving import variables
from tests.mirror import Mirror
from tests.rest.gateway import both_doors

POISON = {"lines": [line("1", quantity=-1)]}


@pytest.fixture
async def shop(mirror: Mirror) -> Mirror:
    """Two orders that the database refuses, and one that it took."""
    await mirror.take(order_changed("7", 1), order_changed("8", 1, **POISON), order_changed("9", 1, **POISON))
    return mirror


@pytest.fixture
def events(shop: Mirror, address: Address, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `mirror events …` in this process; return exit code and output."""
    monkeypatch.setattr("sync.cli.command.configure_logs", lambda: None)  # pytest's logs stay as they are

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["events", *arguments], env=variables(address))
        return done.exit_code, done.output

    return run


@both_doors
def test_a_dead_event_is_found_read_and_replayed(events: Any) -> None:
    code, output = events("list", "--state", "dead")
    assert (code, "quantity_check" in output, "Nimal" in output) == (0, True, False)
    code, output = events("list", "--json", "--entity", "8", "--reason", "QUANTITY")
    (found,) = json.loads(output)
    assert (found["state"], found["event_id"] in events("list")[1]) == ("dead", True)
    code, output = events("show", found["event_id"])
    assert code == 0
    assert '"quantity": -1' in output
    assert f"mirror events retry {found['event_id']} --integration vendure" in output
    assert events("retry", found["event_id"]) == (0, "Retried 1 event.\n")
    assert json.loads(events("list", "--json", "--state", "pending")[1])[0]["event_id"] == found["event_id"]


def test_in_bulk_it_asks_first_and_says_how_many(events: Any) -> None:
    code, output = events("retry", "--all")
    assert (code, "Retry 2 dead events? [y/N]" in output) == (1, True)
    assert len(json.loads(events("list", "--state", "dead", "--json")[1])) == 2
    assert events("retry", "--all", "--yes") == (0, "Retried 2 events.\n")
    assert events("retry", "--all") == (0, "There is no such event.\n"), "there is nothing to ask about"


@both_doors
def test_events_are_skipped_by_choice_for_a_reason(events: Any) -> None:
    assert events("skip", "--entity", "9", "--reason", "a test order", "--yes") == (0, "Skipped 1 event.\n")
    assert "a test order (skipped by service)" in events("list", "--state", "skipped")[1]
    code, output = events("skip", "--all")
    assert (code, "Missing option '--reason'" in output) == (2, True)


@pytest.mark.parametrize("name", ["retry", "skip"])
def test_nothing_is_changed_by_a_command_that_names_nothing(events: Any, name: str) -> None:
    code, output = events(name, *(["--reason", "x"] if name == "skip" else []))
    assert (code, "or say --all" in output) == (2, True)


@both_doors
def test_what_is_in_a_daemon_s_hands_is_named_and_so_is_what_is_unknown(events: Any, database: str) -> None:
    (held, *_) = [found["event_id"] for found in json.loads(events("list", "--json", "--state", "dead")[1])]
    assert events("retry", held)[0] == 0
    claim(database)
    code, output = events("retry", held, "no-such-event")
    assert code == 1
    assert output.startswith(f"Retried 0 events.\nin a daemon's hands and left alone: {held}\nunknown: no-such-event\n")


def claim(dsn: str) -> None:
    """Take all there is, as a daemon does that is slow."""

    async def take() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute("select mirror.claim_events(gen_random_uuid(), 10, '1 minute')")
        await connection.close()

    asyncio.run(take())


def test_since_is_a_moment_in_utc_unless_a_zone_is_said(events: Any) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    before, after, east = now - timedelta(hours=1), now + timedelta(hours=1), timezone(timedelta(hours=14))
    for since in (f"{before:%Y-%m-%dT%H:%M:%S}", f"{before:%Y-%m-%dT%H:%M:%SZ}", before.astimezone(east).isoformat()):
        assert len(json.loads(events("list", "--json", "--since", since)[1])) == 3, since
    assert json.loads(events("list", "--json", "--since", f"{after:%Y-%m-%d %H:%M:%S}")[1]) == []


def test_an_event_that_is_not_there_is_said_so(events: Any) -> None:
    assert events("show", "no-such-event") == (
        1,
        "Error: There is no event no-such-event. `mirror events list` names those there are.\n",
    )
