"""The Admin API of a simulated Vendure with the mirror's plugin: GraphQL in, JSON out. No network here.

It understands what the mirror asks, with variables or literals: `mirrorCount`, `mirrorSweep`, `mirrorDocuments`,
`setOrderCustomFields` and `login`. It lets in whoever has the API key or a session's token, as Vendure does.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from sync.records import Entity
from sync.storm.documents import written

API_KEY = "storm-key"
USERNAME, PASSWORD = "storm", "storm-password"
MOST_IDS, MOST_FINGERPRINTS = 200, 1000

TOKEN_HEADER = "vendure-auth-token"  # noqa: S105 - the name of a header

_FIELD = re.compile(
    r"(?:(\w+)\s*:\s*)?\b(mirrorCount|mirrorSweep|mirrorDocuments|setOrderCustomFields|login)\s*\(([^)]*)\)"
)
_ARGUMENT = re.compile(r'(\w+)\s*:\s*(\$\w+|"[^"]*"|\w+)')
_LITERALS = {"null": None, "true": True, "false": False}


class Shop(Protocol):
    """What the API asks of the shop behind it."""

    def now(self) -> datetime:
        """Return the time by the shop's clock."""

    def count(self, entity: Entity, since: datetime | None) -> int:
        """Return how many there are; with `since`, how many were touched since then."""

    def page(
        self, entity: Entity, position: str | None, since: datetime | None, limit: int
    ) -> Iterator[tuple[str, str]]:
        """Yield id and hash of the entities after a position, in the order of their ids."""

    def event(self, entity: Entity, source_id: str) -> bytes:
        """Return what a hook would say of an entity now: JSON."""

    def set_delivery(self, source_id: str, stage: str | None, tracking_number: str | None) -> bool:
        """Set an order's stage and tracking number; return whether there is such an order."""


class Answer(msgspec.Struct, frozen=True):
    """An answer of the API, before the network had its way with it."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = {}


class _Request(msgspec.Struct):
    query: str
    variables: dict[str, Any] | None = None


class _Refusal(Exception):  # noqa: N818 - it becomes an answer
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class AdminApi:
    """Answers requests about a shop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._tokens: set[str] = set()
        self._fields: dict[str, Callable[[dict[str, Any]], bytes]] = {
            "mirrorCount": self._count,
            "mirrorSweep": self._sweep,
            "mirrorDocuments": self._documents,
            "setOrderCustomFields": self._set_custom_fields,
        }

    def answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer a request. Header names: lower case."""
        try:
            request = msgspec.json.decode(body, type=_Request)
        except msgspec.DecodeError as error:
            return _errors("BAD_REQUEST", str(error), status=400)
        found = list(_asked(request))
        if not found:
            return _errors("GRAPHQL_VALIDATION_FAILED", "Cannot query such a field", status=400)
        if found[0][1] == "login":
            return self._login(found[0][0], found[0][2])
        if not self._knows(headers):
            return _errors("FORBIDDEN", "You are not currently authorized to perform this action")
        try:
            data = b",".join(b'"%s":%s' % (key.encode(), self._fields[name](given)) for key, name, given in found)
        except _Refusal as refusal:
            return _errors(refusal.code, str(refusal))
        return Answer(b'{"data":{%s}}' % data)

    def end_sessions(self) -> None:
        """Forget every token, as a restart without a session store does."""
        self._tokens.clear()

    def _knows(self, headers: Mapping[str, str]) -> bool:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        return headers.get("vendure-api-key") == API_KEY or token in self._tokens

    def _login(self, key: str, given: dict[str, Any]) -> Answer:
        if (given.get("username"), given.get("password")) != (USERNAME, PASSWORD):
            refusal = {"__typename": "InvalidCredentialsError", "errorCode": "INVALID_CREDENTIALS_ERROR"}
            return _data(key, {**refusal, "message": "The provided credentials are invalid"})
        token = secrets.token_hex(32)
        self._tokens.add(token)
        answer = _data(key, {"__typename": "CurrentUser", "id": "1", "identifier": USERNAME})
        return msgspec.structs.replace(answer, headers={TOKEN_HEADER: token})

    def _count(self, given: dict[str, Any]) -> bytes:
        return str(self._shop.count(_entity(given), _since(given))).encode()

    def _sweep(self, given: dict[str, Any]) -> bytes:
        limit = int(given["limit"])
        if not 1 <= limit <= MOST_FINGERPRINTS:
            raise _Refusal("BAD_USER_INPUT", f"limit: 1 to {MOST_FINGERPRINTS}")
        read_at = written(self._shop.now())
        found = list(self._shop.page(_entity(given), given.get("position"), _since(given), limit + 1))
        page = found[:limit]
        return msgspec.json.encode(
            {
                "readAt": read_at,
                "counted": len(page),
                "fingerprints": [{"id": source_id, "hash": source_hash} for source_id, source_hash in page],
                "position": page[-1][0] if len(found) > limit else None,
            }
        )

    def _documents(self, given: dict[str, Any]) -> bytes:
        ids = given["ids"]
        if len(ids) > MOST_IDS:
            raise _Refusal("BAD_USER_INPUT", f"ids: at most {MOST_IDS}")
        return b"[%s]" % b",".join(self._shop.event(_entity(given), source_id) for source_id in ids)

    def _set_custom_fields(self, given: dict[str, Any]) -> bytes:
        order = given.get("input", given)
        fields = order.get("customFields", order)
        if not self._shop.set_delivery(order["id"], fields.get("deliveryStage"), fields.get("trackingNumber")):
            raise _Refusal("ENTITY_NOT_FOUND", f"No Order with the id '{order['id']}' could be found")
        return msgspec.json.encode({"id": order["id"], "customFields": fields})


def _asked(request: _Request) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the fields that a query asks for: the key of the answer, the field's name, its arguments."""
    variables = request.variables or {}
    _, _, selection = request.query.partition("{")
    for alias, name, arguments in _FIELD.findall(selection):
        given = {key: _value(text, variables) for key, text in _ARGUMENT.findall(arguments)}
        yield alias or name, name, given


def _value(text: str, variables: dict[str, Any]) -> Any:
    if text.startswith("$"):
        return variables.get(text[1:])
    return _LITERALS.get(text, text.strip('"'))


def _entity(given: dict[str, Any]) -> Entity:
    return "order" if given["entity"] == "ORDER" else "customer"


def _since(given: dict[str, Any]) -> datetime | None:
    since = given.get("since")
    return datetime.fromisoformat(since) if since else None


def _data(key: str, value: Any) -> Answer:
    return Answer(msgspec.json.encode({"data": {key: value}}))


def _errors(code: str, message: str, *, status: int = 200) -> Answer:
    error = {"message": message, "extensions": {"code": code}}
    return Answer(msgspec.json.encode({"errors": [error], "data": None}), status)
