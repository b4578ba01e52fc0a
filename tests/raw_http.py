"""HTTP byte by byte: a connection that sends what it is told to, however odd, and forgives a server nothing.

A client library would open another connection where one was closed on it. This one takes a closed connection for an
error, unless the last answer had said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    head: bytes
    body: bytes

    @property
    def closes(self) -> bool:
        return b"\r\nconnection: close" in self.head.lower()


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return a request, with the length of its body."""
    lines = [f"{method} {path} HTTP/1.1", "host: mirror", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Line:
    """A connection that stays open between requests; the next request opens another if the last answer closed it."""

    def __init__(self, address: str) -> None:
        target = urlsplit(address)
        self._target = (target.hostname or "", target.port or 80)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.opened = 0

    async def send(self, data: bytes) -> Answer:
        """Send a request; return the answer. Raises OSError or IncompleteReadError if there is none."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._target)
            self.opened += 1
        reader, writer = self._streams
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        answer = Answer(int(head.split(b" ", 2)[1]), head, await reader.readexactly(_length(head)))
        if answer.closes:
            self.close()
        return answer

    async def send_and_end(self, data: bytes) -> Answer:
        """Send over a connection of its own what may be no whole request, end there, and return the answer."""
        reader, writer = await asyncio.open_connection(*self._target)
        try:
            writer.write(data)
            await asyncio.sleep(0)
            writer.write_eof()
            head = await reader.readuntil(b"\r\n\r\n")
            return Answer(int(head.split(b" ", 2)[1]), head, await reader.readexactly(_length(head)))
        finally:
            writer.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
