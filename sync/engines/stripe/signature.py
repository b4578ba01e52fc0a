"""Is a hook ours? Stripe's own scheme, by its own library.

The header `Stripe-Signature` holds the time of an attempt and signatures of that time and the raw body; while a secret
is rotated at Stripe there are two. A signature is good for five minutes. What is wrong is said so that the shop's
developer can put it right; nothing is said that helps to forge.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from stripe import SignatureVerificationError, WebhookSignature

from sync.engines.base import BadSignature, require_headers

HEADERS = ("stripe-signature",)

TOLERANCE_SECONDS = 300
"""Stripe's own: it signs each attempt anew, with the time of that attempt."""

UNREADABLE = "The header Stripe-Signature must look like t=<Unix time in seconds>,v1=<signature>."
TOO_OLD = "The signature is more than five minutes old: check the clock of this machine."
TOO_NEW = "The signature is more than five minutes in the future: check the clock of this machine."
NO_MATCH = (
    "The signature does not match. Compare the signing secret of the endpoint in Stripe's dashboard with the one set "
    "here for this integration, and see that the body arrives exactly as it was signed."
)


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
    """Raise BadSignature unless one of the secrets signed this body within the last five minutes."""
    require_headers(headers, HEADERS)
    header = headers[HEADERS[0]]
    signed_at = _signed_at(header)
    if not any(_is_signed(header, body, secret) for secret in secrets):
        raise BadSignature(NO_MATCH)
    age = time.time() - signed_at
    if abs(age) > TOLERANCE_SECONDS:
        raise BadSignature(TOO_OLD if age > 0 else TOO_NEW)


def _is_signed(header: str, body: bytes, secret: str) -> bool:
    with suppress(SignatureVerificationError, UnicodeDecodeError, TypeError):  # TypeError: not ASCII, not comparable
        return bool(WebhookSignature.verify_header(body, header, secret))
    return False


def _signed_at(header: str) -> int:
    """Return the time in a header, which the library looks at only once it has found a signature that matches."""
    times = [value for name, _, value in (part.partition("=") for part in header.split(",")) if name == "t"]
    if not times or not times[0].isdecimal() or not times[0].isascii() or len(times[0]) > len("99999999999"):
        raise BadSignature(UNREADABLE)
    return int(times[0])
