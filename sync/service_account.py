"""Who runs a program that refuses to be root: us, unless we are root.

As root it is the owner of the program's folder, or `postgres`, or `nobody`. That account may not be allowed
to walk to the folder or to the programs (both under `/root`, for instance). Opening up root's folders would
change a machine that is not ours, so the program gets the one capability it lacks instead, and only then.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

ACCOUNTS = ("postgres", "nobody")
ROOT = 0


class CommandError(RuntimeError):
    """A program ended with an error; the message is the command and what it printed."""


@dataclass(frozen=True)
class ServiceAccount:
    """The user and group to run as, or what to put before a command to become them; empty for ourselves."""

    user: int | None = None
    group: int | None = None
    prefix: tuple[str, ...] = ()

    @classmethod
    def for_folder(cls, folder: Path, programs: Path) -> ServiceAccount:
        """Choose the account for programs in `programs` that work on `folder`."""
        if os.geteuid() != ROOT:
            return cls()
        user, group = _owner_of(folder)
        if all(_can_walk_to(path, user, group) for path in (folder.parent, programs)):
            return cls(user, group)
        return cls(user, group, _with_file_access(user, group, folder))

    def own(self, folder: Path) -> None:
        """Give the folder to the account."""
        if self.user is not None and self.group is not None:
            os.chown(folder, self.user, self.group)
        folder.chmod(0o700)

    def run(self, command: list[str | Path], *, cwd: Path, stdin: str = "") -> None:
        """Run a command to its end, quietly, without the caller's `PG…` variables.

        Raises:
            CommandError: the program's exit code was not 0.
        """
        user, group = (None, None) if self.prefix else (self.user, self.group)
        done = subprocess.run(
            [*self.prefix, *command],
            check=False,
            cwd=cwd,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )
        if done.returncode != 0:
            line = " ".join(str(word) for word in command)
            raise CommandError(f"`{line}` ended with code {done.returncode}:\n{done.stdout.strip()}")


def _owner_of(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    if found.st_uid != ROOT:
        return found.st_uid, found.st_gid
    for name in ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
            return account.pw_uid, account.pw_gid
        except KeyError:
            continue
    raise CommandError(
        f"Postgres does not run as root, and there is no account {' or '.join(ACCOUNTS)}: "
        "start as an ordinary user, or set DATABASE_URL."
    )


def _can_walk_to(path: Path, user: int, group: int) -> bool:
    return all(_may_enter(step.stat(), user, group) for step in (path, *path.parents))


def _may_enter(found: os.stat_result, user: int, group: int) -> bool:
    if found.st_uid == user:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == group:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _with_file_access(user: int, group: int, folder: Path) -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise CommandError(
            f"Postgres does not run as root, and an ordinary account cannot enter {folder}: start as an "
            "ordinary user, choose a folder that all may enter, or install setpriv (util-linux)."
        )
    return (
        setpriv, f"--reuid={user}", f"--regid={group}", "--clear-groups",
        "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--",
    )  # fmt: skip
