"""The door that needs nothing but HTTPS: a Supabase project's Data API, by the `supabase` client and a secret key.

The Data API does not see the schema `mirror`. `public.mirror_call` does, and only service_role may call it: it takes a
function's name and its arguments, and says of each column which type it has, so that values come out as they do at the
other door. No notification comes through; whoever listens has to poll.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import msgspec
from supabase import AsyncClient, AsyncClientOptions

from sync.doors.base import Heard, Row, translated
from sync.errors import Reject, Retry, Unmigrated
from sync.settings import Project

FUNCTION = "mirror_call"

CONNECT_SECONDS = 10
CALL_SECONDS = 65
"""A little longer than the function's own time, so that the database is the one to give up."""

IDLE_SECONDS = 30
"""Shorter than any gateway waits: a connection that it closes meanwhile would fail the next call."""

REFUSED_KEY = "SUPABASE_SECRET_KEY is refused: it must be a secret key (sb_secret_…) of the project of SUPABASE_URL"

DOOR_IS_AWAY = "PGRST0"
"""PostgREST's own errors are PGRST and three figures; those of this group say that it has no connection to Postgres
(https://docs.postgrest.org/en/stable/references/errors.html)."""

NO_SUCH_FUNCTION = "PGRST202"
"""PostgREST's cache of the schema does not have it: nobody has migrated, or it has not looked since."""

SQLSTATE_LENGTH = 5


class RestDoor:
    """Calls over HTTP, at most so many at once. Safe to use from many tasks."""

    def __init__(self, project: Project, *, connections: int) -> None:
        self._project = project
        self._connections = connections
        self._client: AsyncClient | None = None
        self._http: httpx.AsyncClient | None = None

    async def value(self, function: str, arguments: dict[str, Any]) -> Any:
        rows = await self.rows(function, arguments)
        return rows[0][0]

    async def rows(self, function: str, arguments: dict[str, Any]) -> list[Row]:
        body = {"p_function": function, "p_arguments": msgspec.to_builtins(arguments)}
        try:
            answer = await self._opened().rpc(FUNCTION, body).execute()
        except httpx.HTTPError as error:
            raise Retry(f"the Data API cannot be reached: {type(error).__name__}") from error
        return _read(answer.data)

    async def hears(self) -> bool:
        return False

    async def listen(self, _channel: str, _heard: Heard) -> None:
        """Wait: nothing comes this way."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
        self._http = self._client = None

    def _opened(self) -> AsyncClient:
        if self._client is None:
            self._http = httpx.AsyncClient(
                limits=httpx.Limits(max_connections=self._connections, keepalive_expiry=IDLE_SECONDS),
                timeout=httpx.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS),
                event_hooks={"response": [_require_success]},
            )
            options = AsyncClientOptions(httpx_client=self._http, auto_refresh_token=False, persist_session=False)
            self._client = AsyncClient(self._project.url, self._project.secret_key, options)
        return self._client


class _Answer(msgspec.Struct):
    """What `mirror_call` returns."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]


class _Row:
    """Values by name or by position, as asyncpg has them."""

    __slots__ = ("_positions", "_values")

    def __init__(self, positions: dict[str, int], values: Sequence[Any]) -> None:
        self._positions = positions
        self._values = values

    def __getitem__(self, key: str | int) -> Any:
        return self._values[self._positions[key] if isinstance(key, str) else key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> list[str]:
        return list(self._positions)


def _read(data: Any) -> list[Row]:
    try:
        answer = msgspec.convert(data, _Answer)
    except msgspec.ValidationError:
        raise Retry("what answers at SUPABASE_URL is not a Supabase project's Data API") from None
    positions = {name: position for position, name in enumerate(answer.columns)}
    readers = [_reader(name) for name in answer.types]
    return [_Row(positions, [read(value) for read, value in zip(readers, row, strict=True)]) for row in answer.rows]


def _reader(type_name: str) -> Callable[[Any], Any]:
    """Return what makes a Python value of a JSON one: the one that asyncpg would give for this type."""
    element = type_name.removesuffix("[]")
    read = _READERS.get(element, _as_it_is)

    def one(value: Any) -> Any:
        return None if value is None else read(value)

    def many(values: Any) -> Any:
        return None if values is None else [one(value) for value in values]

    return one if element == type_name else many


def _as_it_is(value: Any) -> Any:
    return value


def _moment(text: str) -> datetime:
    return _NEVER.get(text) or datetime.fromisoformat(text).astimezone(UTC)


def _duration(seconds: str) -> timedelta:
    return timedelta(microseconds=int(Decimal(seconds) * 1_000_000))


_NEVER = {"infinity": datetime.max, "-infinity": datetime.min}  # noqa: DTZ901 - as asyncpg has them

_READERS: dict[str, Callable[[Any], Any]] = {
    "uuid": UUID,
    "timestamp with time zone": _moment,
    "date": date.fromisoformat,
    "numeric": Decimal,
    "double precision": float,
    "interval": _duration,
}
"""By the names that Postgres gives to types. Booleans, integers and text are in JSON what they are in Python."""


class _Fault(msgspec.Struct):
    """What Postgres and PostgREST say that is wrong; what stands before them has no code."""

    code: str | None = None
    message: str | None = None


async def _require_success(response: httpx.Response) -> None:
    """Raise what to do about an answer that is none: here, where its status is still known."""
    if response.is_success:
        return
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise Retry(REFUSED_KEY)  # by the gateway or by PostgREST: it says nothing about the call
    try:
        fault = msgspec.json.decode(await response.aread(), type=_Fault)
    except (msgspec.DecodeError, UnicodeDecodeError):
        fault = _Fault()
    raise _translated(fault, response)


def _translated(fault: _Fault, response: httpx.Response) -> Retry | Reject:
    code, message = fault.code or "", fault.message or ""
    if len(code) == SQLSTATE_LENGTH:
        return translated(code, message, constraint=_last_quoted(message))
    if code == NO_SUCH_FUNCTION:
        return Unmigrated(f"{message} ({code})")
    if code.startswith("PGRST") and not code.startswith(DOOR_IS_AWAY):
        return Reject(f"{message} ({code})")
    reason = f"SUPABASE_URL answers {response.status_code} {response.reason_phrase}"
    after = response.headers.get("retry-after", "")
    return Retry(f"{reason}: {message}" if message else reason, after=float(after) if after.isdecimal() else None)


def _last_quoted(message: str) -> str | None:
    """Return the name of the constraint, of which PostgREST tells no more than Postgres' message does."""
    _, *quoted = message.rsplit('"', 2)
    return quoted[0] if len(quoted) == 2 else None
