"""Request ids: what ties an answer, its lines in the log and the events of its hook together.

An id that comes with the request is kept, so that a sender's own log can be matched: X-Request-ID, or the trace of a
W3C traceparent (https://www.w3.org/TR/trace-context/). What is not well-formed is replaced, not repaired.
"""

import os
import re

PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
TRACE = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
ID_BYTES = 16


def request_id(given: bytes | None, traceparent: bytes | None) -> str:
    """Return the id of a request with these headers."""
    if given is not None and PATTERN.fullmatch(given):
        return given.decode()
    if traceparent is not None and (trace := TRACE.fullmatch(traceparent)) and not traceparent.startswith(b"ff"):
        return trace[1].decode()
    return os.urandom(ID_BYTES).hex()
