"""`python -m api`: the API alone in a process of its own, until SIGTERM or Ctrl-C.

Prints one line to stdout when it listens: `Listening at http://…`. The log goes to stderr.
"""

import asyncio
import signal
import sys

import uvloop

from api.server import serve
from sync.logs import configure_logs
from sync.processes import stop_with_parent
from sync.settings import SettingsError, load_settings


async def _main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(load_settings(), stop=stop, listening=_announce)


def _announce(address: str) -> None:
    sys.stdout.write(f"Listening at {address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    configure_logs()
    stop_with_parent()
    try:
        uvloop.run(_main())
    except SettingsError as error:
        sys.exit(str(error))
