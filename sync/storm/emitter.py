"""Posts the shop's changes as the plugin does, over a network in which everything goes wrong that can.

A change is a note; notes are claimed, the documents read, and posted, several in a request; a note is forgotten only
when the mirror has answered 202, and tried again with backoff until then. So whatever the faults, the mirror has
accepted every change in the end, but for those that are lost on purpose.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from standardwebhooks import Webhook

from sync.records import Entity
from sync.stack import make_secret
from sync.storm import documents
from sync.storm.documents import written
from sync.storm.faults import HookFaults
from sync.storm.shop import Shop

CONNECTIONS = 8
MOST_EVENTS = 20
"""Of a request; the number varies from one to so many."""
DELAY_SECONDS = (0.5, 5.0)
BACKOFF_SECONDS = (0.1, 1.0)
REST_SECONDS = (0.0, 0.3)
"""Between two requests of a sender: meanwhile, changes gather."""
ABANDONED_AFTER_SECONDS = 0.003
REFUSED_ANYWAY = {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS}
"""What a request that is wrong may also be answered: forged ones are limited, and a long storm comes to the limit."""
EARLIER_STATES = 2000
"""So many states are remembered, to come again."""

Key = tuple[Entity, str]


class Tally(msgspec.Struct):
    """What was sent and how the mirror answered."""

    changes: int = 0
    """Notes: what happened to customers and orders."""
    requests: int = 0
    accepted: int = 0
    """Events that the mirror said were new."""
    duplicates: int = 0
    unavailable: int = 0
    """Answers that were neither 202 nor a refusal, and requests without an answer."""


class _State(msgspec.Struct, frozen=True):
    """A document as it was read."""

    key: Key
    read_at: str
    document: bytes | None


class _Outgoing(msgspec.Struct, frozen=True):
    event_id: str
    json: bytes


class Emitter:
    """The plugin's outbox and sender. `note` what changes; `run` it beside; `drained` when all is said."""

    def __init__(self, shop: Shop, endpoint: str, secret: str, faults: HookFaults, *, seed: object = 0) -> None:
        self.faults = faults
        self.tally = Tally()
        self.thrown: Counter[str] = Counter()
        self.sent: set[str] = set()
        """Ids of all events that were ever posted, rightly signed."""
        self.acknowledged: set[str] = set()
        """Ids of the events of which the mirror has said that they are committed."""
        self.misled: set[str] = set()
        """Ids of orders of which a stale state was told as if it were new: it stays in the delivery history."""
        self.wrongly_taken: list[str] = []
        """What it took although it was forged or cut short."""
        self._shop = shop
        self._endpoint = endpoint
        self._secret = secret
        self._choice = random.Random(f"{seed} hooks")  # noqa: S311 - no secret
        self._run_id = f"{self._choice.getrandbits(64):016x}"
        self._notes: dict[Key, int] = {}
        self._earlier: deque[_State] = deque(maxlen=EARLIER_STATES)
        self._in_hand = 0
        self._later: set[asyncio.Task[None]] = set()

    def note(self, entity: Entity, source_id: str) -> None:
        """Remember that an entity changed, unless the note is lost."""
        self.tally.changes += 1
        if not self._is("lost"):
            self._notes[entity, source_id] = self.tally.changes

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            async with httpx.AsyncClient(timeout=30, trust_env=False) as client, asyncio.TaskGroup() as senders:
                for _ in range(CONNECTIONS):
                    senders.create_task(self._keep_sending(client))
        finally:
            for task in self._later:
                task.cancel()

    @property
    def waiting(self) -> int:
        """How many changes are still to be sent, or to be answered."""
        return len(self._notes) + self._in_hand + len(self._later)

    async def drained(self) -> None:
        """Wait until nothing is waiting."""
        while self.waiting:  # noqa: ASYNC110 - several tasks share the work
            await asyncio.sleep(0.02)

    async def _keep_sending(self, client: httpx.AsyncClient) -> None:
        while True:
            if claimed := self._claim(self._choice.randint(1, MOST_EVENTS)):
                with self._holding(len(claimed)):
                    await self._send_claimed(client, claimed)
            await asyncio.sleep(self._choice.uniform(*REST_SECONDS))

    def _claim(self, limit: int) -> dict[Key, int]:
        keys = list(self._notes)[:limit]
        return {key: self._notes.pop(key) for key in keys}

    @contextmanager
    def _holding(self, changes: int) -> Iterator[None]:
        self._in_hand += changes
        try:
            yield
        finally:
            self._in_hand -= changes

    async def _send_claimed(self, client: httpx.AsyncClient, claimed: dict[Key, int]) -> None:
        """Read and post; what is not accepted goes back among the notes, and is read again the next time."""
        events = [self._event(key, note) for key, note in claimed.items()]
        at_once = []
        for event in events:
            if self._is("delayed"):
                self._send_later(client, event, self._choice.uniform(*DELAY_SECONDS))
            else:
                at_once.append(event)
        at_once += self._outdated()
        if at_once and not await self._post(client, at_once):
            sent = {event.event_id for event in at_once}
            for (key, note), event in zip(claimed.items(), events, strict=True):
                if event.event_id in sent:
                    self._notes.setdefault(key, note)
            await asyncio.sleep(self._choice.uniform(*BACKOFF_SECONDS))
            return
        if again := [event for event in at_once if self._is("doubled")]:
            self._send_later_together(client, again)

    def _event(self, key: Key, note: int) -> _Outgoing:
        """Read an entity: the clock first, the document next."""
        read_at = written(self._shop.now())
        state = _State(key, read_at, self._shop.read(*key))
        if self._is("stale") and (earlier := self._earlier_state(key)):
            state = _State(key, read_at, earlier.document)
            self.misled.add(key[1])
        else:
            self._earlier.append(state)
        return self._outgoing(state, note)

    def _outgoing(self, state: _State, note: int) -> _Outgoing:
        entity, source_id = state.key
        content = documents.digest(state.document or b"")[:12]
        event_id = f"{self._run_id}-{entity}-{source_id}-{note}-{content}"
        self.sent.add(event_id)
        return _Outgoing(event_id, documents.event(event_id, entity, source_id, state.read_at, state.document))

    def _outdated(self) -> list[_Outgoing]:
        """Return earlier states that come again: each as it was read then, under an id of its own."""
        if not (self._earlier and self._is("outdated")):
            return []
        return [self._outgoing(self._choice.choice(self._earlier), -self._choice.getrandbits(32))]

    def _earlier_state(self, key: Key) -> _State | None:
        return next((state for state in self._earlier if state.key == key), None)

    def _send_later(self, client: httpx.AsyncClient, event: _Outgoing, seconds: float) -> None:
        async def send() -> None:
            is_accepted, wait = False, seconds
            while not is_accepted:
                await asyncio.sleep(wait)
                is_accepted = await self._post(client, [event])
                wait = self._choice.uniform(*BACKOFF_SECONDS)

        self._start(send())

    def _send_later_together(self, client: httpx.AsyncClient, events: list[_Outgoing]) -> None:
        async def send() -> None:
            await self._post(client, events)

        self._start(send())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _post(self, client: httpx.AsyncClient, events: list[_Outgoing]) -> bool:
        """Post a request, after what goes wrong with it; return whether it was accepted."""
        if self._is("shuffled"):
            self._choice.shuffle(events)
        body = _body(events)
        if self._is("forged"):
            await self._post_wrongly(client, body, make_secret(), 401)
        if self._is("truncated"):
            text = body.decode()
            await self._post_wrongly(client, text[: self._choice.randrange(1, len(text))].encode(), self._secret, 400)
        if self._is("abandoned"):
            await self._abandon(client, body)
        answer = await self._attempt(client, body, self._secret)
        if answer is None or answer.status_code != httpx.codes.ACCEPTED:
            self.tally.unavailable += 1
            return False
        counts = msgspec.json.decode(answer.content, type=dict[str, int])
        self.tally.accepted += counts["accepted"]
        self.tally.duplicates += counts["duplicates"]
        self.acknowledged.update(event.event_id for event in events)
        return True

    async def _post_wrongly(self, client: httpx.AsyncClient, body: bytes, secret: str, expected: int) -> None:
        answer = await self._attempt(client, body, secret)
        if answer is not None and answer.status_code not in {expected, *REFUSED_ANYWAY}:
            self.wrongly_taken.append(f"{answer.status_code} where it should be {expected}")

    async def _abandon(self, client: httpx.AsyncClient, body: bytes) -> None:
        """Go away before the answer: whether it is stored, nobody knows."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ABANDONED_AFTER_SECONDS):
                await self._attempt(client, body, self._secret)

    async def _attempt(self, client: httpx.AsyncClient, body: bytes, secret: str) -> httpx.Response | None:
        self.tally.requests += 1
        try:
            return await client.post(self._endpoint, content=body, headers=_signed(body, secret, self.tally.requests))
        except httpx.TransportError:
            return None

    def _is(self, fault: str) -> bool:
        """Tell whether a fault befalls this one."""
        befalls: bool = self._choice.random() < getattr(self.faults, fault)
        self.thrown[f"hooks: {fault}"] += befalls
        return befalls


def _body(events: list[_Outgoing]) -> bytes:
    sent_at = written(datetime.now(UTC)).encode()
    joined = b",".join(event.json for event in events)
    return b'{"type":"vendure.changes","timestamp":"%s","events":[%s]}' % (sent_at, joined)


def _signed(body: bytes, secret: str, number: int) -> dict[str, str]:
    """Return the headers of a request, signed now (Standard Webhooks)."""
    now, message_id = datetime.now(UTC), f"msg_{number}"
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body.decode()),
    }
