"""The socket that the API listens on: handed over by whoever holds it, or else bound here.

Whoever comes while one process ends and the next begins waits in the socket's own queue, as long as somebody holds it
open. So a socket that outlives the process is what lets none be turned away: the supervisor of `--workers` hands its
own over, and so does systemd (https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html).
"""

import os
import socket

from sync.settings import SettingsError

HANDED_OVER = "MIRROR_SOCKET"
"""Environment variable by which our own supervisor names the descriptor."""

FIRST_OF_SYSTEMD = 3
BACKLOG = 2048


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens: the one that was handed over, or a new one.

    Raises:
        SettingsError: the address cannot be used.
    """
    descriptor = _handed_over()
    return _bound(host, port) if descriptor is None else socket.socket(fileno=descriptor)


def address_of(listening: socket.socket) -> str:
    """Return where a socket listens, as a URL."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _handed_over() -> int | None:
    """Return the descriptor of a socket that is ours to use. systemd names the process that it means."""
    if ours := os.environ.get(HANDED_OVER):
        return int(ours)
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    if os.environ.get("LISTEN_FDS") != "1":
        raise SettingsError(f"systemd hands over {os.environ.get('LISTEN_FDS')} sockets: the API listens on one.")
    return FIRST_OF_SYSTEMD


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"The API cannot listen on {host}, port {port}: {error.strerror}. "
            "Set MIRROR_HOST and MIRROR_PORT to an address of this machine and a free port; port 0 takes any."
        ) from None
