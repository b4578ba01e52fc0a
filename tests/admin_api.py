"""The Admin API of a shop with the mirror's plugin, over real HTTP: a shop in memory that answers, or fails as told.

It knows the questions of `docs/vendure-hooks.md` by their names and their variables, not GraphQL.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec

from sync.records import Delivery, Entity
from sync.settings import Credentials
from tests.engine import Shop, ShopClient

USER = {"username": "mirror", "password": "only-for-tests"}
API_KEY = "a key that is only for tests"


class Reply(NamedTuple):
    """What goes over the line: a status, headers, a body; `length` where the line is cut before the body's end."""

    status: int
    body: bytes
    headers: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default
    length: int | None = None


Fault = Callable[[dict[str, Any]], Reply | None]
"""Takes the variables of a question; returns what to answer instead, or None."""


class FakeAdminApi:
    """A shop's Admin API on a loopback port. Use it as a context manager."""

    def __init__(self) -> None:
        self.shop = Shop()
        self.questions: list[dict[str, Any]] = []
        """The variables of every question but logins, in their order."""
        self.logins = 0
        self.faults: deque[Fault] = deque()
        """One for each of the next questions, logins not counted."""
        self.always: Fault = lambda _: None
        """For every question."""
        self.in_flight = 0
        self.most_in_flight = 0
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _endpoint(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/admin-api"

    def user(self, **fields: str) -> Credentials:
        """A user's credentials, right unless told otherwise."""
        return Credentials(api_url=self.url, **{**USER, **fields})

    def end_sessions(self) -> None:
        self._tokens.clear()

    def reply(self, headers: dict[str, str], body: bytes) -> Reply:
        """Answer one question as the API does."""
        question = json.loads(body)
        variables = question["variables"]
        if "login(" in question["query"]:
            return self._log_in(variables)
        with self._lock:
            self.questions.append(variables)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            fault = self.faults.popleft() if self.faults else self.always
        try:
            return fault(variables) or self._answer(headers, question["query"], variables)
        finally:
            with self._lock:
                self.in_flight -= 1

    def _log_in(self, variables: dict[str, Any]) -> Reply:
        self.logins += 1
        if variables != USER:
            return data(login={"__typename": "InvalidCredentialsError", "errorCode": "INVALID_CREDENTIALS_ERROR"})
        token = f"token-{self.logins}"
        self._tokens.add(token)
        return data(login={"__typename": "CurrentUser"})._replace(headers={"vendure-auth-token": token})

    def _answer(self, headers: dict[str, str], query: str, variables: dict[str, Any]) -> Reply:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self._tokens and headers.get("vendure-api-key") != API_KEY:
            return error("You are not currently authorized to perform this action", "FORBIDDEN")
        with self._lock:  # the shop's clock is for one thread at a time
            return asyncio.run(self._asked(query, variables))

    async def _asked(self, query: str, variables: dict[str, Any]) -> Reply:
        client = ShopClient(self.shop)
        entity: Entity = "customer" if variables.get("entity") == "CUSTOMER" else "order"
        since = datetime.fromisoformat(variables["since"]) if variables.get("since") else None
        if "mirrorCount(" in query:
            return data(mirrorCount=await client.count(entity, since=since))
        if "mirrorSweep(" in query:
            sweep = await client.sweep(entity, position=variables["position"], since=since, limit=variables["limit"])
            found = [{"id": one.source_id, "hash": one.hash} for one in sweep.fingerprints]
            return data(
                mirrorSweep={
                    "readAt": sweep.read_at.isoformat(),
                    "counted": sweep.counted,
                    "fingerprints": found,
                    "position": sweep.position,
                }
            )
        if "mirrorDocuments(" in query:
            events = await client.fetch(entity, variables["ids"])
            return data(mirrorDocuments=[msgspec.json.decode(event.payload) for event in events])
        order_id, fields = variables["input"]["id"], variables["input"]["customFields"]
        if order_id not in self.shop.documents["order"]:
            return error(f"No Order with the id '{order_id}' could be found", "ENTITY_NOT_FOUND")
        delivery = Delivery(stage=fields["deliveryStage"], tracking_number=fields["trackingNumber"])
        await client.set_delivery(order_id, delivery)
        return data(setOrderCustomFields={"id": order_id})

    def __enter__(self) -> FakeAdminApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def data(**fields: Any) -> Reply:
    return Reply(200, json.dumps({"data": fields}).encode())


def error(message: str, code: str, status: int = 200) -> Reply:
    body = {"data": None, "errors": [{"message": message, "extensions": {"code": code}}]}
    return Reply(status, json.dumps(body).encode())


def status(number: int, **headers: str) -> Fault:
    """Answer with an HTTP status and no more."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply(number, b"{}", named)


def slow(seconds: float) -> Fault:
    """Answer rightly, but after so long."""

    def fault(_: dict[str, Any]) -> None:
        time.sleep(seconds)

    return fault


def cut_off(_: dict[str, Any]) -> Reply:
    """Send half of an answer and close the line."""
    body = b'{"data": {"mirrorDocuments": [{"id": "a", "type"'
    return Reply(200, body, length=len(body) * 2)


def half_of_the_json(_: dict[str, Any]) -> Reply:
    """Send half of an answer as if it were all: a proxy may."""
    return Reply(200, b'{"data": {"mirrorDocuments": [{"id": "a", "type"')


def _endpoint(api: FakeAdminApi) -> type[BaseHTTPRequestHandler]:
    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            reply = api.reply({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(reply.status)
            content_type = {"content-type": "application/json"}
            length = {"content-length": str(reply.length or len(reply.body))}
            for name, value in (content_type | length | reply.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)
            self.close_connection = reply.length is not None

        def log_message(self, *_: object) -> None:
            """Stay silent."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                """The client did not wait for the answer."""

    return Endpoint
