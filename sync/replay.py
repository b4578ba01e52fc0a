"""Posts recorded hooks to a mirror as an unruly network would: out of order, some twice, one of them forged."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import msgspec
from standardwebhooks import Webhook

from sync.recording import Hook
from sync.stack import make_secret

CONNECTIONS = 8
TWICE = 1 / 5
"""Share of the hooks that are delivered a second time."""


class Tally(msgspec.Struct):
    """How the mirror answered: in events, and in refused requests."""

    requests: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0


class _Answer(msgspec.Struct):
    accepted: int
    duplicates: int


class ReplayError(Exception):
    """The mirror answered otherwise than it should."""


async def replay(hooks: list[Hook], endpoint: str, secret: str, *, seed: int, advance: Callable[[], None]) -> Tally:
    """Post the hooks, shuffled, with duplicates and a forgery; call `advance` after each. Raise ReplayError."""
    plan = iter(_shuffled(hooks, random.Random(seed)))  # noqa: S311 - a shuffle, no secret
    tally = Tally()
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:

        async def deliver() -> None:
            for hook in plan:
                await _post(client, endpoint, hook, secret, tally)
                advance()

        await asyncio.gather(*(deliver() for _ in range(CONNECTIONS)))
        await _post_forged(client, endpoint, hooks[0], tally)
        advance()
    return tally


def deliveries(hooks: list[Hook]) -> int:
    """Return how many requests `replay` makes."""
    return len(hooks) + _duplicates(hooks) + 1


def _duplicates(hooks: list[Hook]) -> int:
    return round(len(hooks) * TWICE)


def _shuffled(hooks: list[Hook], order: random.Random) -> list[Hook]:
    plan = hooks + order.sample(hooks, _duplicates(hooks))
    order.shuffle(plan)
    return plan


async def _post(client: httpx.AsyncClient, endpoint: str, hook: Hook, secret: str, tally: Tally) -> None:
    answer = await client.post(endpoint, content=hook.body, headers=signed(hook, secret))
    if answer.status_code != httpx.codes.ACCEPTED:
        raise ReplayError(f"{endpoint} answered {answer.status_code}: {answer.text}")
    counts = msgspec.json.decode(answer.content, type=_Answer)
    tally.requests += 1
    tally.accepted += counts.accepted
    tally.duplicates += counts.duplicates


async def _post_forged(client: httpx.AsyncClient, endpoint: str, hook: Hook, tally: Tally) -> None:
    answer = await client.post(endpoint, content=hook.body, headers=signed(hook, make_secret()))
    if answer.status_code != httpx.codes.UNAUTHORIZED:
        raise ReplayError(f"{endpoint} answered {answer.status_code} to a forged hook: it must be 401")
    tally.requests += 1
    tally.refused += 1


def signed(hook: Hook, secret: str) -> dict[str, str]:
    """Return the headers of a request with this hook, signed now (Standard Webhooks)."""
    now = datetime.now(UTC)
    return {
        "content-type": "application/json",
        "webhook-id": hook.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(hook.id, now, hook.body),
    }
