"""Hooks as the plugin sends them: made and signed here, for tests that send their own."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(b"the secret of the shop in tests.").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"a secret that we do not know yet").decode()
READ_AT = "2026-11-20T10:00:00.123456Z"


def change(event_id: str, **fields: Any) -> dict[str, Any]:
    """Return an event of a hook, as `docs/vendure-hooks.md` describes it."""
    event = {"id": event_id, "type": "order.changed", "entityId": "12", "readAt": READ_AT, "data": {"id": "12"}}
    return {**event, **fields}


def body_of(*events: Any) -> bytes:
    """Return the body of a hook with these events."""
    return json.dumps({"type": "vendure.changes", "timestamp": READ_AT, "events": events}).encode()


def signed(body: bytes, *secrets: str, message_id: str = "msg_1", at: datetime | None = None) -> dict[str, str]:
    """Return the headers of a request with this body, signed now unless told otherwise."""
    sent = at or datetime.now(UTC)
    signatures = (Webhook(secret).sign(message_id, sent, body.decode()) for secret in secrets or (SECRET,))
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(sent.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
