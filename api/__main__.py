"""`python -m api`: the API alone in a process of its own, until SIGTERM or Ctrl-C.

Prints one line to stdout when it listens: `Listening at http://…`. The log goes to stderr. With `--workers N` it is N
processes, and SIGHUP replaces them (api/workers.py).
"""

import argparse
import asyncio
import signal
import sys

import uvloop

from api.sockets import listening_socket
from api.workers import Workers, WorkersError
from sync.logs import configure_logs
from sync.processes import stop_with_parent
from sync.settings import SettingsError, load_settings

WRONG_SETTINGS = 2
"""Exit code, as that of the other commands."""


async def _main(workers: int | None) -> None:
    stop = _set_by(signal.SIGTERM, signal.SIGINT)
    settings = load_settings()
    if workers is None:
        from api.server import serve  # noqa: PLC0415 - a supervisor needs nothing of what it serves

        await serve(settings, stop=stop, listening=_announce)
        return
    roll = _set_by(signal.SIGHUP)
    with listening_socket(settings.host, settings.port) as bound:
        await Workers(workers, bound).run(stop=stop, roll=roll, listening=_announce)


def _set_by(*signals: signal.Signals) -> asyncio.Event:
    """Return an event that these signals set."""
    event = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def _announce(address: str) -> None:
    sys.stdout.write(f"Listening at {address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m api")
    parser.add_argument("--workers", type=int, help="serve with so many processes, and replace them on SIGHUP")
    configure_logs()
    stop_with_parent()
    try:
        uvloop.run(_main(parser.parse_args().workers))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(WRONG_SETTINGS)
    except WorkersError as error:
        sys.exit(str(error))
