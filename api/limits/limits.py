"""Rate limits as the routes use them: who asks is found out, the answer says what is left, and whoever asks too much is
told when to come back.

A hook with a right signature is never counted. What lets a customer in without being guessed (a token, a signed link)
is not counted as a guess either.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar

from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from api.edge.door import STATE_HEADERS
from api.errors import TooManyRequestsError
from api.limits.counter import Counter, Reserved, Spent
from api.limits.quotas import Quota, Quotas
from api.metrics import LIMITED
from api.peers import Connection, requester
from api.settings import Network
from sync.database import Database
from sync.errors import Retry

_asking: ContextVar[Connection | None] = ContextVar("asking", default=None)
"""Who asks, for what looks orders up and should know of no requests."""


class Limits:
    """The limits of this server."""

    def __init__(self, database: Database, quotas: Quotas, proxies: Sequence[Network]) -> None:
        self._counter = Counter(database)
        self._quotas = quotas
        self._proxies = proxies

    def tracking(self) -> Guard:
        """Return the guard of routes that look orders up."""
        return self._guard(self._quotas.tracking)

    def codes(self) -> Guard:
        """Return the guard of routes that send or compare codes."""
        return self._guard(self._quotas.codes)

    async def unsigned(self, connection: Connection, integration: str) -> None:
        """Count what was not signed or let in; raise TooManyRequestsError if there was too much of it."""
        await self._spend(connection, self._quotas.unsigned, requester(connection, self._proxies))
        await self._spend(connection, self._quotas.unsigned_at_one, integration)

    @asynccontextmanager
    async def guess(self, *resources: str) -> AsyncIterator["Guess"]:
        """Let whoever asks look for what is here under these names, an order code and a phone number say.

        It counts as a miss from the beginning, so that a thousand at once are no way round the limit. A hit, and what
        could not be looked up, is taken back. Raise TooManyRequestsError if too many have missed, and Retry if that
        cannot be known. Without names, and outside of a guarded route, nothing is counted.
        """
        connection = _asking.get()
        guess = Guess()
        reserved: list[Reserved] = []
        try:
            for quota, whose in self._guessed(connection, resources):
                spent, one = await self._counter.reserve(quota, whose)
                _tell(connection, quota, spent)
                if one is not None:
                    reserved.append(one)
            yield guess
        except (Retry, TooManyRequestsError):
            guess.is_right = True  # nothing was looked up
            raise
        finally:
            for one in reserved:
                one.settle(counts=not guess.is_right)

    def _guessed(self, connection: Connection | None, resources: Sequence[str]) -> Iterator[tuple[Quota, str]]:
        if connection is None or not resources:
            return
        if quota := self._quotas.guesses:
            yield quota, requester(connection, self._proxies)
        if quota := self._quotas.guesses_at_one:
            yield from ((quota, name) for name in resources)

    def _guard(self, quota: Quota | None) -> Guard:
        async def guard(connection: Connection, _: BaseRouteHandler) -> None:
            _asking.set(connection)
            await self._spend(connection, quota, requester(connection, self._proxies))

        return guard

    async def _spend(self, connection: Connection, quota: Quota | None, whose: str) -> None:
        if quota is not None:
            _tell(connection, quota, await self._counter.spend(quota, whose))


class Guess:
    """A look for something, which counts as a miss unless it is said to be none."""

    def __init__(self) -> None:
        self.is_right = False


def _tell(connection: Connection | None, quota: Quota, spent: Spent) -> None:
    """Note for the answer what is left; raise TooManyRequestsError if nothing is."""
    if connection is not None:
        connection.scope["state"].setdefault(STATE_HEADERS, []).extend(_headers(quota, spent))
    if not spent.is_granted:
        LIMITED.labels(quota.name).inc()
        raise TooManyRequestsError(quota.name, spent.seconds)


def _headers(quota: Quota, spent: Spent) -> list[tuple[bytes, bytes]]:
    """Return what an answer says of a limit: draft-ietf-httpapi-ratelimit-headers-10.

    What is left is said when less than half is: until then answers to guesses are alike, header for header.
    """
    policy = (b"ratelimit-policy", quota.policy)
    remaining = spent.remaining if spent.is_granted else 0
    if 2 * remaining > quota.limit:
        return [policy]
    return [policy, (b"ratelimit", f'"{quota.name}";r={remaining};t={spent.seconds}'.encode())]
