"""Is a hook ours? Standard Webhooks (https://www.standardwebhooks.com), by its own library.

A signature covers the id, the time and the raw body of one attempt, and is good for five minutes (the library's
window). What is wrong is said so that the shop's developer can put it right; nothing is said that helps to forge.
"""

from collections.abc import Mapping, Sequence

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from sync.engines.base import BadSignature, require_headers

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

EXPLANATIONS = {
    "Invalid Signature Headers": "The header webhook-timestamp must be the Unix time in seconds.",
    "Message timestamp too old": "The header webhook-timestamp is more than five minutes in the past: sign each "
    "attempt with the time of that attempt, and check the clock of the sender.",
    "Message timestamp too new": "The header webhook-timestamp is more than five minutes in the future: check the "
    "clock of the sender.",
}
NO_MATCH = (
    "The signature does not match. Compare the secret in the shop with the one set here for this integration, and "
    "see that the body arrives exactly as it was signed."
)


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
    """Raise BadSignature unless one of the secrets signed this body within the last five minutes."""
    require_headers(headers, HEADERS)
    signed = {name: headers[name] for name in HEADERS}
    reason = NO_MATCH
    for secret in secrets:
        try:
            Webhook(secret).verify(body, signed, json_parse=False)
        except WebhookVerificationError as error:
            reason = EXPLANATIONS.get(str(error), NO_MATCH)
        except ValueError:  # the library lets bad base64, a missing comma and a body that is not UTF-8 through
            reason = NO_MATCH
        else:
            return
    raise BadSignature(reason)
