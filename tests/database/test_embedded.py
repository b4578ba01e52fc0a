"""The embedded Postgres: private, shared, durable, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psutil
import pytest

from sync import embedded, postmaster
from sync.embedded import EmbeddedPostgresError

INTERRUPTIBLE = """
try:
    print('waiting', flush=True)
    sys.stdin.read()
except KeyboardInterrupt:
    print('stopping', flush=True)
    sys.stdin.read()
"""
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a server, with a space in its path; no server is left in it when the test ends."""
    folder = tmp_path / "a shop" / "postgres"
    yield folder
    found = postmaster.running(folder / "data")
    if found is not None:
        psutil.Process(found.pid).send_signal(signal.SIGQUIT)


async def ask(dsn: str, question: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def start_elsewhere(folder: Path, then: str, before: str = "") -> subprocess.Popen[str]:
    """Start the folder's server in a process of its own, which runs a line of Python before and one after."""
    start = f"import sys, pathlib, sync.embedded as e\n{before}\nserver = e.start(pathlib.Path({str(folder)!r}))"
    return subprocess.Popen(
        [sys.executable, "-c", f"{start}\nprint(server.port, flush=True)\n{then}"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_running(folder: Path) -> bool:
    return postmaster.running(folder / "data") is not None


@pytest.mark.parametrize("crash", [False, True])
async def test_restarted_it_comes_back_at_the_same_address_with_all_that_was_committed(
    folder: Path, crash: bool
) -> None:
    with embedded.start(folder) as server:
        before = postmaster.running(folder / "data")
        await ask(server.dsn, "create table kept (id integer)")
        server.restart(crash=crash)
        after = postmaster.running(folder / "data")
        assert before
        assert after
        assert before.pid != after.pid
        assert before.port == after.port == server.port
        assert await ask(server.dsn, "select count(*) from kept") == 0
    assert not is_running(folder)


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_in_the_middle_of_the_start_it_leaves_no_server(folder: Path, told: signal.Signals) -> None:
    with embedded.start(folder):
        pass
    process = start_elsewhere(folder, "", "import sync.interrupts; sync.interrupts.treat_sigterm_as_interrupt()")
    while not (folder / "data" / "postmaster.pid").exists():
        assert process.poll() is None
    process.send_signal(told)
    process.communicate(timeout=60)
    assert not is_running(folder)


async def test_it_has_the_roles_and_settings_of_a_supabase_project(folder: Path) -> None:
    with embedded.start(folder) as server:
        attributes = "rolsuper::text || rolcreatedb || rolcreaterole || rolreplication || rolbypassrls"
        mine = await ask(server.dsn, f"select {attributes} from pg_roles where rolname = current_user")
        assert mine == "falsetruetruetruetrue"
        assert await ask(server.dsn, "select current_user || '/' || current_catalog") == "postgres/postgres"
        assert await ask(server.superuser_dsn, "select current_setting('is_superuser')") == "on"
        for name, value in (("fsync", "on"), ("synchronous_commit", "on"), ("data_checksums", "on")):
            assert await ask(server.dsn, f"show {name}") == value
        assert await ask(server.dsn, "show server_encoding") == "UTF8"


async def test_data_outlive_the_server(folder: Path) -> None:
    with embedded.start(folder) as server:
        await ask(server.dsn, "create table kept as select 'ü' as word")
    assert not is_running(folder)
    with embedded.start(folder) as server:
        assert await ask(server.dsn, "select word from kept") == "ü"


async def test_nobody_enters_without_the_password_and_the_file_with_it_is_private(folder: Path) -> None:
    with embedded.start(folder) as server:
        passfile = folder / "pgpass"
        assert stat.S_IMODE(passfile.stat().st_mode) == 0o600
        assert "PGPASSFILE=" in server.psql
        assert passfile.read_text().splitlines()[1].split(":")[4] not in server.psql
        for role in ("postgres", "supabase_admin"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await ask(f"postgresql://{role}:guess@127.0.0.1:{server.port}/postgres", "select 1")


def test_it_listens_on_loopback_only(folder: Path) -> None:
    with embedded.start(folder):
        found = postmaster.running(folder / "data")
        assert found is not None
        listening = [c for c in psutil.Process(found.pid).net_connections("all") if c.status == "LISTEN"]
        assert {c.laddr.ip for c in listening} == {"127.0.0.1"}


def test_it_prints_nothing_and_leaves_nothing_running_when_its_owner_just_ends(folder: Path) -> None:
    owner = start_elsewhere(folder, "")
    printed, _ = owner.communicate()
    assert owner.returncode == 0
    assert printed.strip().isdigit()
    assert not is_running(folder)


def test_ctrl_c_reaches_the_owner_and_not_postgres(folder: Path) -> None:
    owner = start_elsewhere(folder, INTERRUPTIBLE)
    read_line(owner)
    assert read_line(owner) == "waiting"
    os.killpg(owner.pid, signal.SIGINT)
    assert read_line(owner) == "stopping"
    assert is_running(folder)
    owner.communicate()
    assert not is_running(folder)


def test_an_owner_killed_outright_leaves_a_server_that_the_next_start_finds_and_stops(folder: Path) -> None:
    owner = start_elsewhere(folder, "sys.stdin.read()")
    port = int(read_line(owner))
    owner.kill()
    owner.communicate()
    assert is_running(folder)
    with embedded.start(folder) as server:
        assert server.port == port
    assert not is_running(folder)


def test_starts_at_once_share_one_server_and_the_last_stops_it(folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(embedded.start, [folder] * 4)
    assert {server.port for server in others} == {first.port}
    for server in others:
        server.stop()
        assert is_running(folder)
    first.stop()
    assert not is_running(folder)
    first.stop()


def test_the_server_of_another_process_stays_when_we_stop(folder: Path) -> None:
    owner = start_elsewhere(folder, "sys.stdin.read()")
    port = int(read_line(owner))
    with embedded.start(folder) as server:
        assert server.port == port
    assert is_running(folder)
    owner.communicate()
    assert not is_running(folder)


async def test_after_a_power_cut_the_pid_of_somebody_else_does_not_stop_it(folder: Path) -> None:
    with embedded.start(folder) as server:
        await ask(server.dsn, "create table kept as select 1 as n")
        pid_file = folder / "data" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with embedded.start(folder) as server:
        assert await ask(server.dsn, "select n from kept") == 1


async def test_a_server_killed_outright_recovers(folder: Path) -> None:
    with embedded.start(folder) as server:
        await ask(server.dsn, "create table kept as select 1 as n")
        found = postmaster.running(folder / "data")
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        with embedded.start(folder) as again:
            assert await ask(again.dsn, "select n from kept") == 1


async def test_a_first_start_that_was_cut_short_is_begun_again(folder: Path) -> None:
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18")
    with embedded.start(folder) as server:
        assert await ask(server.dsn, "select 1") == 1


def test_data_of_another_version_are_left_alone_and_the_error_says_what_to_do(folder: Path) -> None:
    embedded.start(folder).stop()
    (folder / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 17; 18 is installed.*delete"):
        embedded.start(folder)


def test_a_server_that_cannot_start_shows_what_postgres_said(folder: Path) -> None:
    embedded.start(folder).stop()
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = on\n")
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        embedded.start(folder)


def test_the_address_stays_the_same(folder: Path) -> None:
    with embedded.start(folder) as before:
        pass
    with embedded.start(folder) as after:
        assert after.dsn == before.dsn


def test_a_taken_port_is_left_for_another(folder: Path) -> None:
    with embedded.start(folder) as before:
        pass
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", before.port))
        taken.listen()
        with embedded.start(folder) as after:
            assert after.port != before.port


@pytest.mark.parametrize("mode", [0o755, 0o700])
async def test_the_folder_may_lie_where_only_its_owner_may_enter(mode: int) -> None:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(mode)
        with embedded.start(Path(parent) / "postgres") as server:
            assert await ask(server.dsn, "select 1") == 1
