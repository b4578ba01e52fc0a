"""Links to the tracking page: `/track/{code}?t=…`, which a shop may put into its messages.

`t` is the moment at which the link expires and a code of authentication (HMAC-SHA256) over store, order and that
moment, so that whoever has the secret makes links, and nobody else:

    t = expires "." first 22 characters of base64url(HMAC-SHA256(secret, "track:" store ":" code ":" expires))

`expires` is in seconds since 1970; the secret counts as it is written. A slug and a number hold no colon, so no two
links sign the same text. 22 characters are 132 bits: as good as all of them, and an SMS is short.
"""

import hmac
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from urllib.parse import quote, urlencode

from sync.settings import SECRET_PREFIX

VARIABLE = "MIRROR_LINK_SECRET"
CODE_LENGTH = 22
MAX_SECONDS = 366 * 24 * 3600
"""No link holds for longer than a year: one whose maker took milliseconds for seconds would hold for ever."""


class BadLinkError(Exception):
    """No secret of ours has made this link for this order."""


class OldLinkError(Exception):
    """The link was ours, until it expired."""


class Links:
    """Makes links by the first secret, and knows those by any."""

    def __init__(self, link_secrets: Sequence[str], *, clock: Callable[[], float] = time.time) -> None:
        self._secrets = [secret.encode() for secret in link_secrets]
        self._clock = clock

    def make(self, store: str, code: str, *, seconds: int) -> str:
        """Return `t` of a link to this order of the store of this slug, good for so long: a year at the most."""
        expires = int(self._clock()) + seconds
        return f"{expires}.{_signature(self._secrets[0], store, code, str(expires))}"

    def check(self, link: str, store: str, code: str) -> int:
        """Return when the link expires; raise BadLinkError if it is no `t` of this order, OldLinkError if it was."""
        expires, _, signature = link.partition(".")
        given = signature.encode("utf-8", "replace")
        matches = [hmac.compare_digest(given, _signature(key, store, code, expires).encode()) for key in self._secrets]
        if not any(matches) or not (expires.isascii() and expires.isdecimal()):
            raise BadLinkError
        left = int(expires) - self._clock()
        if left > MAX_SECONDS:
            raise BadLinkError
        if left <= 0:
            raise OldLinkError
        return int(expires)


def passing_secret() -> str:
    """Return a secret that nobody else has, as the variable takes it: for links that end with whoever made it."""
    return SECRET_PREFIX + b64encode(secrets.token_bytes(32)).decode()


def path_of(code: str, link: str, store: str | None = None) -> str:
    """Return the page's path and query, with the store where it is not the first one."""
    named = {"t": link} if store is None else {"t": link, "store": store}
    return f"/track/{quote(code, safe='')}?{urlencode(named)}"


def _signature(secret: bytes, store: str, code: str, expires: str) -> str:
    signed = f"track:{store}:{code}:{expires}".encode("utf-8", "surrogatepass")
    return urlsafe_b64encode(hmac.digest(secret, signed, sha256))[:CODE_LENGTH].decode()
