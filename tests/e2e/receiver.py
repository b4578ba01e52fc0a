"""A receiver that writes down every hook, and is at times as unreliable as the internet.

Each signature is verified with the `standardwebhooks` library; a request with a wrong one ends the recording.
Now and then it answers 500, or hangs up after it has taken the hook, so that the sender's retries, which a
mirror must recognize, are part of the recording.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

HUNG_UP = 0


@dataclass(frozen=True)
class Request:
    """One request as it came: the headers of Standard Webhooks, and the body verbatim."""

    id: str
    timestamp: str
    signature: str
    body: str
    answer: int
    """The status that was answered; 0: none, the line was cut."""

    def as_line(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(self.body)["events"]
        return events


@dataclass
class Receiver:
    """A loopback endpoint and all that was posted to it. Use it as a context manager."""

    secret: str
    requests: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._webhook = Webhook(self.secret)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _endpoint(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks/vendure"

    def take(self, headers: Mapping[str, str], body: str) -> int:
        """Verify and write down a request; return the answer to give."""
        try:
            self._webhook.verify(body, dict(headers))
        except WebhookVerificationError as error:
            self.faults.append(f"{headers.get('webhook-id')}: {error}")
            return 401
        signed = {name: headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")}
        with self._lock:
            answer = _answer(len(self.requests))
            self.requests.append(Request(**signed, body=body, answer=answer))
        return answer

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _answer(number: int) -> int:
    """The fate of the request with this number, the same in every recording."""
    if number % 16 == 5:
        return 500
    return HUNG_UP if number % 16 == 12 else 202


def _endpoint(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            answer = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            if answer == HUNG_UP:
                self.close_connection = True
            else:
                self._reply(answer, body)

        def _reply(self, answer: int, body: str) -> None:
            accepted = len(json.loads(body)["events"]) if answer == 202 else 0
            content = json.dumps({"accepted": accepted, "duplicates": 0}).encode()
            self.send_response(answer)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Stay silent: the recording tells it all."""

    return Endpoint
