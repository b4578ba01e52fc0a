"""`mirror backfill` and `mirror reconcile` against an engine over HTTP, as a person at a terminal uses them."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from sync.storm.admin_api import API_KEY
from tests.flow.serving import until
from tests.flow.test_cli import command, mirror

READ = "select sum(listed) from mirror.sync_receipts where entity = 'order' and slice < $1"
PROGRESS = "select coalesce(max(slice), 0) from mirror.sync_cursors where entity = 'order'"
LAPSED = "update mirror.sync_runs set claimed_until = now()"
LIVE = "select count(*) from public.customer_orders_summary where source_version > '-infinity' and deleted_at is null"


@pytest.fixture
def engine() -> Iterator[dict[str, str]]:
    """A shop of 6,000 orders over HTTP: what the environment needs to reach it."""
    arguments = [sys.executable, "-m", "sync.storm.server", "--orders", "6000"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        yield {"VENDURE_API_URL": address, "VENDURE_API_KEY": API_KEY}
        process.terminate()


async def test_killed_in_the_middle_a_backfill_goes_on_where_it_was(
    tmp_path: Path, database: str, connection: asyncpg.Connection, engine: dict[str, str]
) -> None:
    environment = {"DATABASE_URL": database, **engine}

    async def is_in_the_middle() -> bool:
        return bool(await connection.fetchval(PROGRESS) >= 2)

    with subprocess.Popen(**command(tmp_path, "backfill", "vendure", **environment)) as process:
        await until(is_in_the_middle)
        process.kill()
    slices = await connection.fetchval(PROGRESS)
    read = await connection.fetchval(READ, slices)
    assert 0 < read < 6000
    await connection.execute(LAPSED)

    code, output = await asyncio.to_thread(mirror, tmp_path, "backfill", "vendure", **environment)
    assert code == 0, output
    assert "Complete: every receipt agrees with the engine." in output
    going_on = re.search(r"orders: going on after ([\d,]+)", output)
    assert going_on
    assert int(going_on[1].replace(",", "")) == read
    assert await connection.fetchval(LIVE) == 6000
    assert await connection.fetchval("select count(*) from mirror.sync_runs") == 1


async def test_reconcile_tells_of_drift_and_heals_it(
    tmp_path: Path, database: str, connection: asyncpg.Connection, engine: dict[str, str]
) -> None:
    environment = {"DATABASE_URL": database, **engine}
    only = ("--entity", "customer")
    code, output = await asyncio.to_thread(mirror, tmp_path, "backfill", "vendure", *only, **environment)
    assert code == 0, output
    await connection.execute("update public.customers set first_name = 'Mallory' where source_id = '7'")

    code, output = await asyncio.to_thread(mirror, tmp_path, "reconcile", "vendure", *only, **environment)
    assert code == 1
    assert re.search(r"customer 7: stale; changed by hand \(postgres, .* \(UTC\)\)", output)
    assert "Drifted: 0 missing, 1 stale and 0 gone customers." in output
    assert "`mirror reconcile --fix` heals it" in output

    code, output = await asyncio.to_thread(mirror, tmp_path, "reconcile", "vendure", "--fix", *only, **environment)
    assert code == 0, output
    assert "Complete: the mirror equals the engine." in output
    assert await connection.fetchval("select first_name from public.customers where source_id = '7'") != "Mallory"


def test_without_credentials_it_says_which_variables_are_missing(tmp_path: Path, database: str) -> None:
    code, output = mirror(tmp_path, "backfill", "vendure", DATABASE_URL=database)
    assert code == 2
    assert "VENDURE_API_URL: Environment variable not set." in output


@pytest.mark.parametrize("verb", ["backfill", "reconcile"])
def test_an_engine_that_is_none_is_named_in_a_sentence(tmp_path: Path, database: str, verb: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        nobody.listen()
        threading.Thread(target=_answer_404, args=(nobody,), daemon=True).start()
        engine = {"VENDURE_API_URL": f"http://127.0.0.1:{nobody.getsockname()[1]}/admin-api", "VENDURE_API_KEY": "key"}
        code, output = mirror(tmp_path, verb, "vendure", DATABASE_URL=database, **engine)
    assert code == 1
    assert output.endswith("Is the address right?\n")


def _answer_404(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


async def test_stopped_a_backfill_says_that_it_goes_on(
    tmp_path: Path, database: str, connection: asyncpg.Connection, engine: dict[str, str]
) -> None:
    async def is_in_the_middle() -> bool:
        return bool(await connection.fetchval(PROGRESS) >= 1)

    with subprocess.Popen(**command(tmp_path, "backfill", "vendure", DATABASE_URL=database, **engine)) as process:
        await until(is_in_the_middle)
        process.send_signal(signal.SIGINT)
        output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 130
    assert "Stopped. What was read is kept" in output


def test_an_unknown_integration_is_named_with_those_that_there_are(tmp_path: Path, database: str) -> None:
    code, output = mirror(tmp_path, "reconcile", "shop-2", DATABASE_URL=database)
    assert code == 1
    assert "there is no active integration 'shop-2' in mirror.integrations (there is: vendure)" in output


@pytest.mark.parametrize("option", [("--window", "soon"), ("--allow-gone", "150%"), ("--entity", "cart")])
def test_an_option_that_makes_no_sense_is_refused(tmp_path: Path, database: str, option: tuple[str, str]) -> None:
    code, output = mirror(tmp_path, "reconcile", "vendure", *option, DATABASE_URL=database)
    assert code == 2
    assert option[0] in output
