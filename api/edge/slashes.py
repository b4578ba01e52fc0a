"""Order codes with a slash, as in `/orders/2026%2F17`: some shops number their orders like that.

A server undoes `%2F` before anybody sees the path, and then the code is two of its parts. So the slash is kept as a
character that no code has, until the code is taken from the path.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

STAND_IN = "\ue02f"
"""Of Unicode's private use area."""
BEFORE_A_CODE = (b"/orders/", b"/track/")
ENCODED = re.compile(b"%2[fF]")
ENCODED_STAND_IN = quote(STAND_IN).encode()


def keep_slashes(scope: Any) -> Any:
    """Return a request's scope, in whose path an encoded slash is no separator."""
    raw = scope.get("raw_path") or b""
    if b"%2" not in raw or not raw.startswith(BEFORE_A_CODE):
        return scope
    return {**scope, "path": unquote(ENCODED.sub(ENCODED_STAND_IN, raw).decode("ascii"))}


def with_slashes(code: str) -> str:
    """Return a code as it is written, from what the path of a request has."""
    return code.replace(STAND_IN, "/")
