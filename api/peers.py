"""Who is asking? The address that a request comes from, through proxies that are trusted to say so.

Each proxy appends to X-Forwarded-For whom it got the request from. So the list is read from its end, as long as those
who wrote are trusted: what is before that anybody may have made up. Who comes by a Unix socket is trusted: only a proxy
on this machine may open its file. A connection that is reset before it is read has no address either, and is not.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from litestar.connection import ASGIConnection

from api.settings import Network

Connection = ASGIConnection[Any, Any, Any, Any]
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

SITE_BITS = 64
"""Whoever has one IPv6 address has a whole network of this size."""

UNKNOWN = "unknown"
UNIX = "unix"
WITH_PORT = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[^\]]+)\])(?::[0-9]+)?")


REMEMBERED = 4096
"""Answers for clients that come again: reading addresses takes longer than the rest of a limit does."""
MAX_REMEMBERED_LENGTH = 200


def requester(request: Connection, proxies: Sequence[Network]) -> str:
    """Return the network address that a request is counted for: an IPv4 address, or an IPv6 network."""
    client, server = request.scope["client"], request.scope["server"]
    lists = [value for name, value in request.scope["headers"] if name == b"x-forwarded-for"]
    forwarded = b",".join(lists).decode("latin-1")
    find = _found if len(forwarded) <= MAX_REMEMBERED_LENGTH else _found.__wrapped__
    is_unix = client is None and server is not None and server[1] is None
    return find(client[0] if client else UNIX if is_unix else "", forwarded, tuple(proxies))


@lru_cache(maxsize=REMEMBERED)
def _found(peer: str, forwarded: str, proxies: tuple[Network, ...]) -> str:
    found = UNKNOWN
    for text in _hops(peer, forwarded):
        address = _parsed(text)
        if address is None:
            break
        found = _counted(address)
        if not any(address in network for network in proxies):
            break
    return found


def _hops(peer: str, forwarded: str) -> Iterator[str]:
    """Yield who says to have sent it, the nearest first."""
    if peer != UNIX:
        yield peer
    yield from (part.strip() for part in reversed(forwarded.split(",")))


def _parsed(text: str) -> Ip | None:
    """Read an address; some proxies add the port."""
    found = WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(found["v4"] or found["v6"] if found else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _counted(address: Ip) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, SITE_BITS), strict=False))
