"""Deliveries of a real shop, spoilt in every way we could think of, each with what must become of it.

All chance comes from one seed: the same number is the same request (but for the time at which it is signed).
"""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import random
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from typing import Any

import msgspec

from sync.recording import load_recording
from tests.fuzz.verdict import REFUSED, Verdict, taken, verdict_of
from tests.hooks import OTHER_SECRET, SECRET
from tests.raw_http import request

PATH = "/hooks/vendure"
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, -0.0, 10**30, 2**63, 0.1, "", " ", "x" * 199, "x" * 201, "\0", "\ud800",
    "\udc00\ud800",
    "\ufffd", "\u202e", "😀", "සිංහල", "2026-11-20", "2026-11-20T10:00:00", "2026-13-40T99:00:00Z", "null", [], {}, [[]],
    [None], {"": None}, {"id": "1"}, "'; drop table customers; --", "\n", "\x7f", "NaN", "1", "vendure.changes",
)  # fmt: skip
ODD_TEXTS = (
    b"null", b"NaN", b"-Infinity", b"1e400", b"-1e-400", b"9" * 5000, b"01", b"1.", b".5", b"+1", b"-", b"1e", b"0x10",
    b'"\\ud800"', b'"\\u0000"', b'"\\udc00\\ud800"', b'"\\x"', b'"\\u12"', b'"\t"', b'"\n"', b'"\x00"', b'"\xff"',
    b'"\xed\xa0\x80"', b'"\xc0\x80"', b"'x'", b"tru", b"{,}", b"[,]", b"[1,]", b'{"a":1,}', b'{"a"}', b"{a:1}", b"//",
    b"", b'{"a":1,"a":2}', b"\xef\xbb\xbf1", b"\xa0", b"1 2",
)  # fmt: skip
INTEGRATIONS = (
    "/hooks/", "/hooks", "/hooks/VENDURE", "/hooks/vendure/x", "/hooks/%00", "/hooks/../hooks/nowhere", "/hooks/%ff",
    "/hooks/" + "x" * 5000, "//hooks", "/hooks/'--", "/hooks/nowhere?integration=vendure",
)  # fmt: skip
TIMES = ("", "0", "-1", "now", "1e400", "nan", "inf", "9" * 400, "2026-11-20T10:00:00Z", "\xb2", "0x10", "1,2", " ")


class Delivery(msgspec.Struct, frozen=True):
    """A request and what must become of it."""

    kind: str
    data: bytes
    verdict: Verdict
    is_whole: bool = True
    """Otherwise it breaks off, or is no HTTP: there may be no answer, and the connection is done for."""


class Deliveries:
    """So many spoilt deliveries."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - to be had again, not to be secret
        self._bodies = [json.loads(hook.body) for hook in load_recording().hooks]
        self._number = 0
        self._sent: list[tuple[bytes, Verdict]] = []
        self._kinds: list[Callable[[], Delivery]] = [
            *[self._fresh] * 2, self._again, *[self._bytes_after_signing] * 2, *[self._signature] * 2, self._time,
            *[self._two_signatures] * 2, *[self._values] * 6, *[self._text] * 4, *[self._bytes_before_signing] * 3,
            self._nested, self._encoded, self._many, self._headers, self._chunked, self._elsewhere, self._broken_off,
        ]  # fmt: skip

    def take(self, count: int) -> Iterator[Delivery]:
        for _ in range(count):
            self._number += 1
            yield self._chance.choice(self._kinds)()

    # Bodies

    def _body(self) -> dict[str, Any]:
        """Return a recorded body with ids of its own."""
        body = dict(self._chance.choice(self._bodies))
        body["events"] = [{**event, "id": f"{self._number}-{place}"} for place, event in enumerate(body["events"][:3])]
        return body

    def _json(self, body: Any) -> bytes:
        return json.dumps(body, ensure_ascii=self._chance.random() < 0.5).encode("utf-8", "surrogatepass")

    def _ids(self, body: dict[str, Any]) -> tuple[str, ...]:
        return tuple(event["id"] for event in body["events"])

    # Signed properly

    def _fresh(self) -> Delivery:
        body = self._body()
        data, verdict = self._json(body), taken(*self._ids(body))
        self._sent.append((data, verdict))
        return self._signed("fresh", data, verdict)

    def _again(self) -> Delivery:
        if not self._sent:
            return self._fresh()
        return self._signed("again", *self._chance.choice(self._sent[-50:]))

    def _values(self) -> Delivery:
        """Odd values somewhere inside."""
        body = json.loads(json.dumps(self._body()))
        for _ in range(self._chance.randint(1, 3)):
            self._spoil(body)
        return self._judged("values", self._json(body))

    def _spoil(self, node: Any) -> None:
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                return
            key = self._chance.choice(keys)
            if isinstance(node[key], dict | list) and self._chance.random() < 0.7:
                node = node[key]
            elif self._chance.random() < 0.2:
                del node[key]
                return
            else:
                node[key] = deepcopy(self._chance.choice(ODD_VALUES))
                return

    def _text(self) -> Delivery:
        """What no encoder writes, in the place of a value."""
        body = json.loads(json.dumps(self._body()))
        node, marked = body["events"][0], "here-it-is"
        while isinstance(node.get("data"), dict) and node["data"] and self._chance.random() < 0.8:
            node = node["data"]
        key = self._chance.choice(list(node))
        node[key] = marked
        text = self._chance.choice(ODD_TEXTS)
        return self._judged("text", json.dumps(body).encode().replace(f'"{marked}"'.encode(), text))

    def _bytes_before_signing(self) -> Delivery:
        return self._judged("bytes before signing", self._damaged(self._json(self._body())))

    def _nested(self) -> Delivery:
        depth = self._chance.choice((10, 100, 190, 500, 900, 1100, 5000, 20_000, 100_000))
        opening, closing = self._chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
        inside = opening * depth + b"1" + closing * (depth if self._chance.random() < 0.8 else depth - 1)
        body = self._body()
        body["events"] = [{**body["events"][0], "data": "inside"}]
        return self._judged("nested", json.dumps(body).encode().replace(b'"inside"', inside))

    def _encoded(self) -> Delivery:
        """In another encoding, with a mark in front, with space around, not JSON at all."""
        data = self._json(self._body())
        text = data.decode("utf-8", "surrogatepass")
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: text.encode("utf-16"), lambda: text.encode("utf-32-le"), lambda: b"\xef\xbb\xbf" + data,
            lambda: b" \r\n\t" + data + b"\n ", lambda: data + b"\0", lambda: data + data, lambda: b"", lambda: b" ",
            lambda: gzip.compress(data), lambda: b"a=" + data, lambda: data[::-1], lambda: b"[" + data + b"]",
        )  # fmt: skip
        return self._judged("encoded", self._chance.choice(ways)())

    def _many(self) -> Delivery:
        """Many small events, around the limit."""
        event = {"type": "order.changed", "entityId": "1", "readAt": "2026-11-20T10:00:00Z", "data": None}
        count = self._chance.choice((0, 1, 2, 20)) if self._chance.random() < 0.98 else self._chance.choice((999, 1001))
        events = [{**event, "id": f"{self._number}-{place}"} for place in range(count)]
        return self._judged("many", self._json({"type": "vendure.changes", "events": events}))

    # Signed otherwise

    def _bytes_after_signing(self) -> Delivery:
        data = self._json(self._body())
        damaged = self._damaged(data)
        if damaged == data:
            return self._signed("unchanged", data, verdict_of(data))
        return Delivery("bytes after signing", request("POST", PATH, self._headers_of(data), damaged), REFUSED)

    def _signature(self) -> Delivery:
        data = self._json(self._body())
        headers = self._headers_of(data)
        right = headers["webhook-signature"]
        place = self._chance.randrange(3, 40)  # its last letters have bits that count for nothing
        letter = self._chance.choice(BASE64.replace(right[place], ""))
        headers["webhook-signature"] = self._chance.choice((
            right[:place] + letter + right[place + 1 :], "", "v1,", "v1", ",", right[3:], right.replace("v1,", "v1a,"),
            right.replace("v1,", "v2,"), right[:-4], "v1," + "\xff" * 44, "v1," + "A" * 44, right + "\xe9",
            "v1,=" * 50, self._headers_of(data, OTHER_SECRET)["webhook-signature"], " ", right.replace(",", ";"),
        ))  # fmt: skip
        return Delivery("signature", request("POST", PATH, headers, data), REFUSED)

    def _time(self) -> Delivery:
        """Signed at a time that does not count, or at none."""
        data = self._json(self._body())
        now = int(time.time())
        if self._chance.random() < 0.5:
            away = self._chance.choice((-10_000_000, -3600, -360, 360, 3600, 10_000_000_000))
            return Delivery("time", request("POST", PATH, self._headers_of(data, at=now + away), data), REFUSED)
        headers = {**self._headers_of(data), "webhook-timestamp": self._chance.choice(TIMES)}
        return Delivery("time", request("POST", PATH, headers, data), REFUSED)

    def _two_signatures(self) -> Delivery:
        """One of several is right: that is how a secret is rotated."""
        body = self._body()
        data = self._json(body)
        headers = self._headers_of(data)
        others = [self._headers_of(data, OTHER_SECRET)["webhook-signature"], "v1a,AAAA", "v2,x", "v1," + "A" * 44]
        mixed = [headers["webhook-signature"], *self._chance.sample(others, self._chance.randint(1, 3))]
        self._chance.shuffle(mixed)
        headers["webhook-signature"] = " ".join(mixed)
        return Delivery("two signatures", request("POST", PATH, headers, data), taken(*self._ids(body)))

    # Sent otherwise

    def _headers(self) -> Delivery:
        """Headers that do not matter."""
        body = self._body()
        data = self._json(body)
        odd = self._chance.choice((
            {"content-type": "text/plain"}, {"content-type": "multipart/form-data"}, {"content-type": "\xff"},
            {"content-type": "application/x-www-form-urlencoded"}, {"content-type": ""}, {"content-encoding": "gzip"},
            {"accept": "nothing/at-all"}, {"accept-encoding": "br;q=x"}, {"cookie": "a=\xff; =; ;;"},
            {"x-" + "y" * 900: "z" * 900},
            {"x-forwarded-for": "not an address, 1.2.3.4.5"}, {"authorization": "Bearer \xe9"}, {"host": "\xff"},
            {"x-request-id": "\x80" * 300}, {"connection": "close"}, {"expect": "nothing"}, {"range": "bytes=5-1"},
            {"origin": "null"}, {"if-none-match": '"'}, {"traceparent": "00-zz"}, {"x-http-method-override": "DELETE"},
        ))  # fmt: skip
        return self._signed("headers", data, taken(*self._ids(body)), odd)

    def _chunked(self) -> Delivery:
        """In chunks, of which the last may be missing."""
        body = self._body()
        data = self._json(body)
        head = request("POST", PATH, {**self._headers_of(data), "transfer-encoding": "chunked"})
        chunks, rest = [head.replace(b"content-length: 0\r\n", b"")], data
        while rest:
            piece, rest = rest[: (size := self._chance.choice((1, 7, 500, 5000)))], rest[size:]
            chunks.append(b"%x\r\n%s\r\n" % (len(piece), piece))
            if len(chunks) > 40:
                chunks.append(b"%x\r\n%s\r\n" % (len(rest), rest) if rest else b"")
                break
        if self._chance.random() < 0.7:
            return Delivery("chunked", b"".join([*chunks, b"0\r\n\r\n"]), taken(*self._ids(body)))
        return Delivery("chunks missing", b"".join([*chunks[:-1], b"zz"]), REFUSED, is_whole=False)

    def _elsewhere(self) -> Delivery:
        """To another address, or in another way."""
        data = self._json(self._body())
        if self._chance.random() < 0.5:
            place = self._chance.choice(INTEGRATIONS)
            return Delivery("elsewhere", request("POST", place, self._headers_of(data), data), REFUSED)
        method = self._chance.choice(("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"))
        return Delivery("method", request(method, PATH, self._headers_of(data), data), REFUSED)

    def _broken_off(self) -> Delivery:
        """A request that ends too early, is longer than it says, or is none."""
        data = self._json(self._body())
        whole = request("POST", PATH, self._headers_of(data), data)
        length = f"content-length: {len(data)}".encode()
        broken = self._chance.choice((
            whole[: self._chance.randrange(1, len(whole))], whole.replace(length, b"content-length: 99999999"),
            whole.replace(length, b"content-length: 5"), whole.replace(length, b"content-length: -5"),
            whole.replace(length, length + b"\r\ncontent-length: 3"), whole.replace(b"HTTP/1.1", b"HTTP/9.9"),
            whole.replace(length, length + b"\r\ntransfer-encoding: chunked"), whole.replace(b"POST", b"P\0ST"),
            self._damaged(whole[:200]), b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 50,
        ))  # fmt: skip
        return Delivery("broken off", broken, REFUSED, is_whole=False)

    # Making them

    def _damaged(self, data: bytes) -> bytes:
        """Return it with some bytes flipped, left out, put in or cut off."""
        spoilt = bytearray(data)
        for _ in range(self._chance.choice((1, 1, 2, 5))):
            place = self._chance.randrange(len(spoilt))
            match self._chance.randrange(4):
                case 0:
                    spoilt[place] ^= 1 << self._chance.randrange(8)
                case 1:
                    del spoilt[place : place + self._chance.randint(1, 20)]
                case 2:
                    spoilt[place:place] = self._chance.randbytes(self._chance.randint(1, 4))
                case _:
                    spoilt[place] = self._chance.choice(b'"\\{}[],:0\0\n\xff')
            if not spoilt:
                break
        return bytes(spoilt)

    def _judged(self, kind: str, data: bytes) -> Delivery:
        try:
            data.decode()
        except UnicodeDecodeError:
            verdict = REFUSED
        else:
            verdict = verdict_of(data)
        return self._signed(kind, data, verdict)

    def _signed(self, kind: str, data: bytes, verdict: Verdict, more: dict[str, str] | None = None) -> Delivery:
        return Delivery(kind, request("POST", PATH, {**self._headers_of(data), **(more or {})}, data), verdict)

    def _headers_of(self, data: bytes, secret: str = SECRET, at: int | None = None) -> dict[str, str]:
        return signed_bytes(data, secret, f"msg_{self._number}", at or int(time.time()))


def signed_bytes(data: bytes, secret: str, message_id: str, at: int) -> dict[str, str]:
    """Return the headers of a body that may not be text, signed as the standard says."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.digest(key, f"{message_id}.{at}.".encode() + data, sha256)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }
