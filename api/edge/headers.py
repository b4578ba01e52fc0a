"""Security headers: on every answer, as strict as an API can have them.

An answer that needs other ones brings its own: a header that is there already stays. A route says for all of its
answers what it needs by `opt={HEADERS: {"Content-Security-Policy": "…"}}`; an empty value leaves the header out.
"""

from collections.abc import Mapping

HEADERS = "security_headers"
"""Key of a route's `opt`."""

DEFAULTS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of JSON that nobody may frame, run or learn addresses from. Who may read it from another site, CORS says."""

RawHeaders = list[tuple[bytes, bytes]]


class SecurityHeaders:
    """The headers of this server's answers, made once for each set of a route's own."""

    def __init__(self, *, hsts_seconds: int) -> None:
        transport = {"Strict-Transport-Security": f"max-age={hsts_seconds}; includeSubDomains"} if hsts_seconds else {}
        self._defaults = {**DEFAULTS, **transport}
        self._default = _raw(self._defaults)
        self._of_opt: dict[tuple[tuple[str, str], ...], RawHeaders] = {}

    def of(self, opt: Mapping[str, object] | None) -> RawHeaders:
        """Return what goes onto the answers of a route with this `opt`."""
        own = opt.get(HEADERS) if opt else None
        if not isinstance(own, Mapping):
            return self._default
        key = tuple(own.items())
        if key not in self._of_opt:
            self._of_opt[key] = _raw({**self._defaults, **own})
        return self._of_opt[key]


def _raw(headers: Mapping[str, str]) -> RawHeaders:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items() if value]
