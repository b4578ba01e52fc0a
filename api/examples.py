"""What requests and answers look like, for the OpenAPI document. A test holds each against its type."""

from typing import Any

CODE = "K3QTXZ5VN8PL2M4W"
PHONE = "+94 77 123 45 67"
LINK = "1800000000.3q2-7wAAAAAAAAAAAAAAAA"
SESSION = "Qm9va2VyVDEwMDAwMDAwMA"
VERSION = "5d41402abc4b2a76b9719d91"

ORDER: dict[str, Any] = {
    "order_code": CODE,
    "placed_at": "2026-11-20T09:58:27Z",
    "cancelled_at": None,
    "stage": "SOURCING",
    "timeline": [
        {"stage": "ORDER_CONFIRMED", "reached_at": "2026-11-20T09:58:27Z"},
        {"stage": "SOURCING", "reached_at": "2026-11-22T04:10:00Z"},
        {"stage": "ARRIVED", "reached_at": None},
        {"stage": "DISPATCHED", "reached_at": None},
        {"stage": "DELIVERED", "reached_at": None},
    ],
    "tracking_number": None,
    "carrier": None,
    "carrier_url": None,
    "currency": "LKR",
    "total_with_tax": "25816.00",
    "items": [
        {
            "product_name": "Home Kit",
            "variant_name": "Home Kit M",
            "quantity": 1,
            "print_name": "NIMAL",
            "print_number": "7",
        }
    ],
    "eta": None,
    "is_delayed": False,
    "expected": {
        "stage": "ARRIVED",
        "earliest": "2026-12-01T04:10:00Z",
        "latest": "2026-12-05T16:10:00Z",
        "based_on": 12,
    },
    "batch": {"number": "20261115-0001", "state": "inTransit", "orders": 41, "target": 40, "arrives_on": None},
    "version": VERSION,
}
EVENTS = (
    f'retry: 4000\n\nid: {VERSION}\ndata: {{"order_code":"{CODE}","stage":"SOURCING","version":"{VERSION}"}}\n\n:\n\n'
)
"""The data is shortened: it is all of an order."""

HOOK: dict[str, Any] = {
    "type": "vendure.changes",
    "timestamp": "2026-11-20T10:00:00.123Z",
    "events": [
        {
            "id": "01a3-order-12-5.1",
            "type": "order.deleted",
            "entityId": "12",
            "readAt": "2026-11-20T10:00:00.123456Z",
            "data": None,
        }
    ],
}
"""Of Vendure's plugin; another engine's hooks are its own."""
RECEIPT = {"accepted": 1, "duplicates": 0}

CODE_REQUEST = {"phone": PHONE, "purpose": "login", "locale": "en"}
CODE_SENT = {"session_id": SESSION, "expires_in": 300, "resend_in": 60}
CODE_ENTERED = {"session_id": SESSION, "code": "123456"}
VERIFIED = {"verified": True, "token": "eyJhbGciOiJFUzI1NiJ9.….…", "expires_in": 3600}

SEND_SMS = {"user": {"phone": "94771234567", "user_metadata": {"locale": "si"}}, "sms": {"otp": "123456"}}
SMS_SENT: dict[str, Any] = {}
SMS_REFUSED = {"error": {"http_code": 422, "message": "Codes are not sent to this country."}}

LIVE, READY = {"status": "live"}, {"status": "ready"}
SYNC = {"status": "ok", "alarms": []}
SYNC_ALARM = {
    "status": "degraded",
    "alarms": [{"integration": "vendure", "alarm": "silence", "since": "2026-11-20T06:12:00Z"}],
}
METRICS = "# TYPE mirror_lag_seconds gauge\nmirror_lag_seconds 0.0\n"
