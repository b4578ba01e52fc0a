"""The group `mirror`, and what all its commands have in common: settings, and errors that are sentences.

Exit codes: 0 done; 1 it failed, and standard error says why; 2 wrong usage or settings; 130 interrupted.
"""

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

import asyncpg
import click
import msgspec
from rich.console import Console

from sync.database import Database, connect
from sync.demo import DemoError
from sync.doors.base import MIGRATE
from sync.embedded import EmbeddedPostgresError
from sync.errors import Reject, Retry
from sync.logs import configure_logs
from sync.migrate import MigrationError
from sync.rebuild.schema import RebuildError
from sync.replay import ReplayError
from sync.settings import Address, Settings, SettingsError, load_settings
from sync.stack import (
    NO_DATABASE,
    StackError,
    existing_database,
)
from sync.storm.storm import StormError

FAILURES = (
    DemoError,
    EmbeddedPostgresError,
    MigrationError,
    RebuildError,
    ReplayError,
    StackError,
    StormError,
    OSError,
)

Answer = TypeVar("Answer")

console = Console()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="commerce-mirror")
def main() -> None:
    """Keep a faithful copy of an online shop's customers and orders in a Supabase project.

    Start with `mirror demo`. Settings come from the environment: README.md lists them.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a name is no reason to fail
    configure_logs()


def command(function: Callable[..., None], *, group: click.Group = main) -> Callable[..., None]:
    """Give a function the settings, and print what is expected to go wrong instead of a traceback."""

    @group.command(name=function.__name__.removeprefix(f"{group.name}_").replace("_", "-"))
    @wraps(function)
    def run(**arguments: Any) -> None:
        try:
            settings = load_settings()
            function(settings, **arguments)
        except SettingsError as error:
            raise WrongSettings(str(error)) from None
        except Retry as error:
            raise Failed(f"{error.reason}. Check {settings.database_variables}, and that the server is up.") from None
        except Reject as error:
            raise Failed(sentence(error.reason)) from None
        except (msgspec.ValidationError, asyncpg.PostgresError) as error:
            raise Failed(f"The database is not as this version expects it: {error}. {MIGRATE}.") from None
        except FAILURES as error:
            raise Failed(str(error) or type(error).__name__) from None
        except KeyboardInterrupt:
            sys.exit(130)

    return run


def sentence(reason: str) -> str:
    """Return a reason with the stop that it may lack."""
    return reason if reason.endswith((".", "?", "!")) else f"{reason}."


class Failed(click.ClickException):
    """What was to be done failed."""

    exit_code = 1


class WrongSettings(click.ClickException):
    """The environment is not right."""

    exit_code = 2


def ask(settings: Settings, question: Callable[[Database], Awaitable[Answer]]) -> Answer:
    """Ask the database something, over one connection."""

    async def ask(address: Address) -> Answer:
        async with connect(address, connections=1) as database:
            return await question(database)

    with existing_database(settings) as address:
        return asyncio.run(ask(address))


def configured(settings: Settings) -> Address:
    """Return where the database is; raise SettingsError if nothing says so."""
    if settings.database is None:
        raise SettingsError(NO_DATABASE)
    return settings.database
