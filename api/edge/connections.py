"""Connections that cannot be held for nothing: uvicorn's own protocol, with bounds on how long a client may take.

- A request, head and body, is here within `REQUEST_SECONDS` of its first byte (or of the connection), or it is answered
  408. Whoever sends a byte now and then holds a connection no longer than that.
- A head longer than `MAX_HEAD_BYTES` is answered 431.
- Of a body that was answered before it was here (no signature, too large) at most `MAX_WASTED_BYTES` more are taken.
- Whoever does not take the answer for `WRITE_SECONDS` is cut off.
- Above `MIRROR_MAX_CONNECTIONS` a connection is answered 503 and closed.

A request that comes whole, as nearly all do, sets no timer.
"""

import asyncio
from http import HTTPStatus
from typing import Any, cast

import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.answers import MEDIA_TYPE, members
from api.problems import HTTP_PROBLEMS, Problem

log = structlog.get_logger()

REQUEST_SECONDS = 20.0
WRITE_SECONDS = 30.0
MAX_HEAD_BYTES = 32 * 1024
MAX_WASTED_BYTES = 256 * 1024


def bounded(max_connections: int) -> type[HttpToolsProtocol]:
    """Return the protocol of a server that holds so many connections, at the most."""
    return cast(type[HttpToolsProtocol], type("Bounded", (Connection,), {"max_connections": max_connections}))


class Connection(HttpToolsProtocol):
    """A client's connection."""

    max_connections: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_head_open = True
        self._is_message_open = True
        self._head_bytes = 0
        self._wasted_bytes = 0
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            log.warning("api.full", connections=self.max_connections)
            self._refuse(HTTP_PROBLEMS[HTTPStatus.SERVICE_UNAVAILABLE])
        else:
            self._reading = self.loop.call_later(REQUEST_SECONDS, self._give_up_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._is_head_open:
            self._head_bytes += len(data)
        elif self.cycle is not None and self.cycle.response_complete:
            self._wasted_bytes += len(data)
            if self._wasted_bytes > MAX_WASTED_BYTES:
                self.transport.close()
                return
        super().data_received(data)
        if self._is_head_open and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTP_PROBLEMS[HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE])
        elif self._is_message_open and self._reading is None and not self.transport.is_closing():
            self._reading = self.loop.call_later(REQUEST_SECONDS, self._give_up_reading)

    def on_message_begin(self) -> None:
        self._is_head_open = self._is_message_open = True
        self._wasted_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_head_open = False
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_message_open = False
        self._stop_reading_timer()
        super().on_message_complete()

    def pause_writing(self) -> None:
        self._writing = self.loop.call_later(WRITE_SECONDS, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(HTTP_PROBLEMS[HTTPStatus.BAD_REQUEST], reason="This is no HTTP/1.1 request.")

    def _give_up_reading(self) -> None:
        self._reading = None
        self._refuse(HTTP_PROBLEMS[HTTPStatus.REQUEST_TIMEOUT])

    def _stop_reading_timer(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _refuse(self, problem: Problem, **told: str) -> None:
        """Answer for the application, if nothing is being answered, and close."""
        if self.transport.is_closing():
            return
        has_begun = self.cycle is not None and self.cycle.response_started
        if not has_begun or (self._is_head_open and self.cycle.response_complete):
            self.transport.write(_answer(problem, **told))
        self.transport.close()


def _answer(problem: Problem, **told: str) -> bytes:
    body = msgspec.json.encode(members(problem, **told))
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "connection": "close",
        "x-content-type-options": "nosniff",
        **problem.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {problem.status.value} {problem.status.phrase}\r\n{head}\r\n".encode() + body
