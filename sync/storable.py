"""JSON as Postgres can hold it.

It can hold neither U+0000 nor half a surrogate pair, which an engine on another database can. Each becomes U+FFFD, so
that one odd character in a name never keeps an order out. Everything else stays as it came.
"""

import re

_ESCAPE = re.compile(
    rb"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?P<unstorable>\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2}))"
    rb"|\\.",
    re.DOTALL,
)
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def storable(body: bytes) -> bytes:
    """Return JSON without what Postgres cannot hold; raise UnicodeDecodeError if it is not UTF-8."""
    body.decode()
    if not _SUSPECT.search(body):
        return body
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["unstorable"] else found[0], body)
