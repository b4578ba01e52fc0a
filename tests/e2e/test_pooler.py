"""Through a connection pooler: a real PgBouncer that gives each transaction whatever session is free."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sync.database import connect
from sync.demo import compare_with_recording, drained
from sync.drain import Drain
from sync.migrate import migrate
from sync.recording import load_recording
from sync.replay import replay
from sync.stack import SECRETS_VARIABLE, make_secret, running
from tests.e2e.shop import free_port
from tests.factory import order_changed
from tests.flow.serving import serving
from tests.flow.watching import ADDRESS, set_stage, watching
from tests.hooks import SECRET
from tests.mirror import Mirror

PGBOUNCER = "/usr/sbin/pgbouncer"
SETTINGS = """
[databases]
* = host=127.0.0.1 port={port} user=postgres password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {sessions}
max_prepared_statements = 0
logfile = {folder}/log
"""


@pytest.fixture(params=["transaction", "session"])
def pooled(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[str]:
    """The address of `database` through PgBouncer."""
    if not Path(PGBOUNCER).exists():
        pytest.fail(f"{PGBOUNCER} is missing. `task test:e2e` installs it: Debian's package pgbouncer.")
    folder, address, listen = _folder(tmp_path), urlsplit(database), free_port()
    settings = SETTINGS.format(
        port=address.port,
        password=address.password,
        listen=listen,
        folder=folder,
        mode=request.param,
        sessions=3 if request.param == "transaction" else 40,
    )
    version = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.split()[1].split(".")[:2])) < (1, 21):
        settings = settings.replace("max_prepared_statements = 0\n", "")
    (folder / "ini").write_text(settings)
    (folder / "users").write_text(f'"postgres" "{address.password}"\n')
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([PGBOUNCER, "-q", *as_nobody, folder / "ini"])
    try:
        _wait_for(listen)
        yield urlunsplit(address._replace(netloc=f"postgres:{address.password}@127.0.0.1:{listen}"))
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def _folder(tmp_path: Path) -> Path:
    """A folder that PgBouncer's account can reach: pytest's own are closed to it."""
    folder = Path("/tmp") / f"pgbouncer-{tmp_path.name}-{os.getpid()}"  # noqa: S108
    folder.mkdir(mode=0o755)
    (folder / "log").touch()
    if os.geteuid() == 0:
        shutil.chown(folder / "log", "nobody")
    return folder


def _wait_for(port: int) -> None:
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail("PgBouncer does not listen.")


async def test_a_mirror_behind_a_pooler_equals_the_engine(pooled: str) -> None:
    recording, secret = load_recording(), make_secret()
    address = f"http://127.0.0.1:{(port := free_port())}"
    environment = {"DATABASE_URL": pooled, SECRETS_VARIABLE: secret, "MIRROR_PORT": str(port)}
    async with running(address, environment), connect(pooled) as database:
        await replay(recording.hooks, f"{address}/hooks/vendure", secret, seed=1, advance=lambda: None)
        status = await drained(database)
        comparison = await compare_with_recording(database, recording.documents)
    assert status.inbox["dead"] == 0
    assert comparison.differences == []


async def test_many_calls_at_once_do_not_meet_each_others_statements(pooled: str) -> None:
    async with connect(pooled, connections=8) as one, connect(pooled, connections=8) as another:
        draining = asyncio.gather(*(Drain(one).run() for _ in range(10)))
        integrations = asyncio.gather(*(one.rows("list_integrations") for _ in range(40)))
        stores = asyncio.gather(*(another.rows("list_stores") for _ in range(40)))
        assert all(row["slug"] == "vendure" for rows in await integrations for row in rows)
        assert all(row["slug"] == "default" for rows in await stores for row in rows)
        await draining


async def test_who_watches_an_order_hears_of_it_though_no_notification_comes(
    pooled: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRETS_VARIABLE, SECRET)
    async with connect(pooled) as database:
        await (await Mirror.over(database, connection)).take(order_changed("1", 1, shippingAddress=ADDRESS))
        assert not await database.hears()
    async with serving(pooled, poll_seconds=0.3) as api, watching(api) as events, watching(api) as others:
        assert (await events.stage(), await others.stage()) == ("ORDER_CONFIRMED", "ORDER_CONFIRMED")
        for stage in ("SOURCING", "ARRIVED", "DISPATCHED"):
            await set_stage(connection, stage)
            assert (await events.stage(), await others.stage()) == (stage, stage)


def test_status_says_that_no_notification_comes(pooled: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "sync", "status"],
        env=os.environ | {"DATABASE_URL": pooled},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "No notification comes this way" in told.stdout + told.stderr


async def test_migrate_through_a_pooler_finds_the_schema_current(pooled: str) -> None:
    assert (await migrate(pooled)).migrations == []
