"""The command `mirror`, as a person at a terminal uses it: it works, it explains itself, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click
import httpx
import psutil
import pytest

from sync import embedded, postmaster
from sync.cli import main
from sync.links import Links
from sync.migrate import migrate, migrations, supabase_folder
from sync.settings import Project
from tests.factory import customer_changed
from tests.flow.serving import variables
from tests.hooks import SECRET, body_of, signed
from tests.postgres import TestServer

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 30


def command(home: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """Return what starts `mirror` with a bare environment and a home of its own."""
    bare = {n: v for n, v in os.environ.items() if not n.startswith(("MIRROR_", "DATABASE_", "SUPABASE_", "VENDURE_"))}
    return {
        "args": [sys.executable, "-m", "sync", *arguments],
        "cwd": CHECKOUT,
        "env": {**bare, "MIRROR_HOME": str(home), "COLUMNS": "200", **environment},
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }


def mirror(home: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run `mirror` to its end; return exit code and output."""
    done = subprocess.run(**command(home, *arguments, **environment), timeout=90, check=False)
    return done.returncode, done.stdout


@contextmanager
def staying(home: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that stays, in a process group of its own; kill it in the end if it is still there."""
    process: subprocess.Popen[str] = subprocess.Popen(
        **command(home, *arguments, **environment), start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read the output up to the line with these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def interrupt(process: subprocess.Popen[str]) -> int:
    """Press Ctrl-C; return the exit code, once nothing that it started is left."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    _, left = psutil.wait_procs(children, timeout=PATIENCE)
    assert left == []
    return process.returncode


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(home: Path) -> bool:
    return postmaster.running(home / "postgres" / "data") is not None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that the tests of `mirror up` share, as a person's runs do."""
    home = tmp_path_factory.mktemp("home")
    yield home
    with embedded.start(home / "postgres"):
        pass  # whoever left it running: the last user stops it
    assert not is_running(home)


@contextmanager
def up(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `mirror up` on a free port; give it, and what it printed until it was ready."""
    with staying(home, "up", MIRROR_PORT="0", MIRROR_LEASE_SECONDS="2") as process:
        yield process, read_until(process, "Ctrl-C ends it")


ODD_ENVIRONMENT = {
    "MIRROR_HOST": "::1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "no_proxy": "",
    "PGSSLMODE": "verify-full",
    "PGHOST": "db.example.com",
    "PYTHONIOENCODING": "ascii",
    "TZ": "Asia/Kathmandu",
}
"""Of a machine that is used for other things, too."""


def test_the_demo_proves_itself_twice_whatever_the_machine_is_used_for(tmp_path: Path) -> None:
    for odd in ({}, ODD_ENVIRONMENT):
        code, output = mirror(tmp_path, "demo", "--exit", **odd)
        found = re.search(r"(\d+) of (\d+) entities equal", output)
        assert found is not None, output
        assert found[1] == found[2], output
        assert (code, int(found[1]) > 60) == (0, True)
        assert not is_running(tmp_path / "demo")


def test_ctrl_c_ends_the_demo_and_nothing_is_left_running(tmp_path: Path) -> None:
    with staying(tmp_path, "demo") as process:
        output = read_until(process, "Ctrl-C ends it.")
        assert "PGPASSFILE=" in output
        assert is_running(tmp_path / "demo")
        assert interrupt(process) == 0
    assert not is_running(tmp_path / "demo")


def test_ctrl_c_in_the_middle_of_the_start_leaves_nothing_either(tmp_path: Path) -> None:
    with staying(tmp_path, "demo") as process:
        read_until(process, "Starting the API")
        assert interrupt(process) == 0
    assert not is_running(tmp_path / "demo")


def test_up_takes_hooks_and_status_shows_them(home: Path) -> None:
    with up(home) as (process, output):
        secret = re.search(r"whsec_\S+", output)
        address = re.search(r"http://\S+/hooks/vendure", output)
        assert secret is not None
        assert address is not None
        body = body_of(customer_changed("1", 1))
        answer = httpx.post(address[0], content=body, headers=signed(body, secret[0]))
        assert answer.json()["accepted"] + answer.json()["duplicates"] == 1
        wait_for(lambda: status(home)["inbox"]["applied"] == 1)
        state = status(home)
        assert (state["inbox"]["pending"], state["tables"]["customers"], state["dead_letters"]) == (0, 1, [])
        assert interrupt(process) == 0
    assert not is_running(home)
    assert status(home)["inbox"]["applied"] == 1


def status(home: Path) -> dict[str, Any]:
    code, output = mirror(home, "status", "--json")
    assert code == 0, output
    found: dict[str, Any] = json.loads(output)
    return found


def test_status_is_readable(home: Path) -> None:
    with embedded.start(home / "postgres") as server:
        assert mirror(home, "migrate", DATABASE_URL=server.superuser_dsn)[0] == 0
    code, output = mirror(home, "status")
    assert code == 0
    for words in ("Inbox", "pending", "Lag: 0.0 s", "customer_orders_summary"):
        assert words in output
    assert "No notification" not in output


def test_killed_outright_up_takes_its_api_and_daemon_with_it_and_the_next_one_works(home: Path) -> None:
    with up(home) as (process, _):
        children = psutil.Process(process.pid).children(recursive=True)
        assert {child.cmdline()[2] for child in children} == {"api", "sync"}
        process.kill()
        _, left = psutil.wait_procs(children, timeout=PATIENCE)
        assert left == []
    with up(home) as (process, _):
        assert interrupt(process) == 0
    assert not is_running(home)


def test_an_api_or_daemon_that_dies_is_started_again(home: Path) -> None:
    with up(home) as (process, output):
        address = re.search(r"http://[\w.:]+", output)
        assert address is not None
        for child in psutil.Process(process.pid).children():
            child.kill()
        read_until(process, "daemon.started")
        wait_for(lambda: is_ready(address[0]))
        assert interrupt(process) == 0


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready").is_success
    except httpx.TransportError:
        return False


def test_a_port_that_is_taken_is_said_so(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = mirror(home, "up", MIRROR_PORT=str(port))
    assert code == 1
    assert f"cannot listen at http://127.0.0.1:{port}: Address already in use" in output
    assert "Choose another MIRROR_PORT." in output
    assert not is_running(home)


def test_an_api_that_does_not_start_is_not_waited_for(home: Path) -> None:
    code, output = mirror(home, "up", MIRROR_PORT="0", VENDURE_HOOK_SECRETS="bad")
    assert code == 1
    assert output.count("VENDURE_HOOK_SECRETS: must be whsec_") == 1
    assert "The API does not start: see above." in output
    assert not is_running(home)


def test_a_demo_that_does_not_start_shows_what_its_log_says(tmp_path: Path) -> None:
    code, output = mirror(tmp_path, "demo", "--exit", MIRROR_TRUSTED_PROXIES="nowhere")
    assert code == 1
    assert "MIRROR_TRUSTED_PROXIES: " in output
    assert str(tmp_path / "demo" / "serve.log") in output


def test_migrate_a_second_time_has_nothing_to_do(server: TestServer, bare_database: str, tmp_path: Path) -> None:
    first = mirror(tmp_path, "migrate", DATABASE_URL=server.superuser(bare_database))
    assert first == (0, "".join(f"applied {m.title}\n" for m in migrations(supabase_folder())))
    second = mirror(tmp_path, "migrate", DATABASE_URL=server.superuser(bare_database))
    assert second == (0, "Nothing to apply: the schema is current.\n")


ASKING = (("status",), ("events", "list"), ("backfill", "vendure"), ("rebuild", "--into", "rebuilt"))


@pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
def test_a_database_that_is_not_migrated_is_said_so(
    server: TestServer, bare_database: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    code, output = mirror(tmp_path, *arguments, DATABASE_URL=server.owner(bare_database))
    assert code == 1
    assert output.endswith("Is the database migrated? `mirror migrate` does it.\n")
    assert "Traceback" not in output


def test_who_may_not_migrate_is_told_who_may(server: TestServer, bare_database: str, tmp_path: Path) -> None:
    assert mirror(tmp_path, "migrate", DATABASE_URL=server.superuser(bare_database))[0] == 0
    code, output = mirror(tmp_path, "migrate", DATABASE_URL=server.owner(bare_database))
    assert code == 1
    assert output.endswith("Migrate as the role that did so first.\n")


async def test_status_of_an_older_schema_says_so(server: TestServer, bare_database: str, tmp_path: Path) -> None:
    await first_migration_only(server, bare_database, tmp_path)
    code, output = mirror(tmp_path, "status", DATABASE_URL=server.owner(bare_database))
    assert (code, output.splitlines()[-1].endswith("`mirror migrate` does it.")) == (1, True), output
    assert "Traceback" not in output


async def first_migration_only(server: TestServer, name: str, folder: Path) -> None:
    """Bring a database to the schema of the first version."""
    (folder / "migrations").mkdir()
    shutil.copy(supabase_folder() / "platform.sql", folder)
    shutil.copy(migrations(supabase_folder())[0].file, folder / "migrations")
    await migrate(server.owner(name), superuser_dsn=server.superuser(name), folder=folder)


@pytest.mark.parametrize(("part", "says"), [("?sslmode=verify-full", "root.crt"), ("?pgbouncer=true", '"pgbouncer"')])
def test_what_is_wrong_with_an_address_is_said(server: TestServer, tmp_path: Path, part: str, says: str) -> None:
    address = server.owner("postgres").split("?")[0] + part
    code, output = mirror(tmp_path, "status", DATABASE_URL=address, HOME=str(tmp_path))
    assert code == 1
    assert says in output
    assert "Check DATABASE_URL" in output


@pytest.mark.parametrize("name", ["migrate", "status"])
def test_a_database_that_does_not_let_us_in_is_said_so(server: TestServer, tmp_path: Path, name: str) -> None:
    wrong = re.sub(r":[^:@/]+@", ":wrong@", server.dsn)
    code, output = mirror(tmp_path, name, DATABASE_URL=wrong)
    assert code == 1
    assert output.startswith("Error: ")
    assert "password authentication failed" in output
    assert "Check DATABASE_URL" in output
    assert "Traceback" not in output


def test_up_runs_where_only_https_leads_out(project: Project, tmp_path: Path) -> None:
    reached = variables(project)
    with staying(tmp_path, "up", MIRROR_PORT="0", VENDURE_HOOK_SECRETS=SECRET, **reached) as process:
        output = read_until(process, "Ctrl-C ends it")
        address = re.search(r"http://\S+/hooks/vendure", output)
        assert address is not None
        body = body_of(customer_changed("1", 1))
        assert httpx.post(address[0], content=body, headers=signed(body)).json() == {"accepted": 1, "duplicates": 0}

        def is_applied() -> bool:
            code, found = mirror(tmp_path, "status", "--json", **reached)
            assert code == 0, found
            return bool(json.loads(found)["inbox"]["applied"] == 1)

        wait_for(is_applied)
        assert "No notification comes this way" in mirror(tmp_path, "status", **reached)[1]
        assert interrupt(process) == 0
    assert not (tmp_path / "postgres").exists()


def test_a_schema_that_is_not_current_is_said_so_where_it_cannot_be_changed(
    server: TestServer, database: str, project: Project, tmp_path: Path
) -> None:
    forget = "delete from supabase_migrations.schema_migrations where version = '20261120120000'"
    server.run(forget, database=urlsplit(database).path.removeprefix("/"))
    reached = variables(project)
    code, output = mirror(tmp_path, "up", **reached)
    assert code == 1
    assert "pending: 20261120120000_batches_delivery_statistics" in output
    assert "run `mirror migrate` with DATABASE_URL" in output
    code, output = mirror(tmp_path, "migrate", "--check", **reached)
    assert (code, output.splitlines()[0]) == (1, "pending 20261120120000_batches_delivery_statistics")


def test_what_takes_a_connection_says_so(tmp_path: Path) -> None:
    code, output = mirror(tmp_path, "migrate", SUPABASE_URL="http://127.0.0.1:9", SUPABASE_SECRET_KEY="sb_secret_x")
    assert code == 2
    assert "This takes a connection to Postgres itself" in output


def test_a_project_that_does_not_let_us_in_is_said_so(project: Project, tmp_path: Path) -> None:
    code, output = mirror(tmp_path, "status", SUPABASE_URL=project.url, SUPABASE_SECRET_KEY="sb_secret_wrong")
    assert code == 1
    assert "SUPABASE_SECRET_KEY is refused" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", ["demo", "serve", "status"])
def test_wrong_settings_are_all_listed(tmp_path: Path, name: str) -> None:
    wrong = {"MIRROR_PORT": "x", "MIRROR_SLICE_SIZE": "0", "DATABASE_URL": "mysql://host"}
    code, output = mirror(tmp_path, name, **wrong)
    assert code == 2
    assert all(variable in output for variable in wrong)


def test_wrong_settings_of_the_api_alone_are_listed_too(tmp_path: Path) -> None:
    wrong = {"MIRROR_BCRYPT_COST": "99", "MIRROR_STREAMS": "-1"}
    code, output = mirror(tmp_path, "serve", DATABASE_URL="postgresql://127.0.0.1:9/nowhere", **wrong)
    assert code == 2
    assert all(variable in output for variable in wrong)


@pytest.mark.parametrize("name", ["serve", "work"])
def test_without_a_database_a_command_says_where_one_is_named(tmp_path: Path, name: str) -> None:
    code, output = mirror(tmp_path, name)
    assert code == 2
    assert "DATABASE_URL" in output
    assert "mirror demo" in output


def test_a_secret_is_made_anew_each_time(tmp_path: Path) -> None:
    (first, one), (second, other) = mirror(tmp_path, "secret"), mirror(tmp_path, "secret")
    assert (first, second, one == other) == (0, 0, False)
    assert one.startswith("whsec_")


def test_a_link_is_made_for_an_order(tmp_path: Path, database: str) -> None:
    known = {"DATABASE_URL": database, "MIRROR_LINK_SECRET": SECRET}
    code, said = mirror(tmp_path, "track-link", "K3/Q", "--days", "2", "--base", "https://shop.example/", **known)
    assert code == 0, said
    address = urlsplit(said.strip())
    assert f"{address.scheme}://{address.netloc}{address.path}" == "https://shop.example/track/K3%2FQ"
    expires = Links([SECRET]).check(parse_qs(address.query)["t"][0], "default", "K3/Q")
    assert abs(expires - time.time() - 2 * 24 * 3600) < 60
    assert mirror(tmp_path, "track-link", "K3", "--store", "elsewhere", **known)[0] == 1
    code, said = mirror(tmp_path, "track-link", "K3", DATABASE_URL=database)
    assert (code, "MIRROR_LINK_SECRET" in said) == (2, True)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_and_option_is_explained(name: str) -> None:
    found = main.commands[name]
    assert found.help
    assert all(option.help for option in found.params if isinstance(option, click.Option))
    with click.Context(found, info_name=name, terminal_width=200) as context:
        assert found.help.splitlines()[0] in found.get_help(context)
