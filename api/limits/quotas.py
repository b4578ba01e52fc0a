"""Rate limits: how much is allowed, to whom, and what each is called. Data; `api/limits/counter.py` counts."""

import re

import msgspec

OFF = "off"
PATTERN = re.compile(r"(\d{1,7})/(\d{1,5})")


class Quota(msgspec.Struct, frozen=True):
    """So many in so many seconds."""

    name: str
    """As clients, logs and metrics see it."""
    limit: int
    seconds: int

    @property
    def free(self) -> int:
        """How many each process lets through before it asks what others have let through."""
        return max(1, self.limit // 8)

    @property
    def policy(self) -> bytes:
        """The header RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10)."""
        return f'"{self.name}";q={self.limit};w={self.seconds}'.encode()


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """The limits, each of which a setting can change or turn off (None)."""

    tracking: Quota | None
    """`MIRROR_LIMIT_TRACKING`: looks at orders, from one address."""
    guesses: Quota | None
    """`MIRROR_LIMIT_GUESSES`: looks that found nothing, from one address."""
    guesses_at_one: Quota | None
    """`MIRROR_LIMIT_GUESSES_AT_ONE`: looks that found nothing, for one order code or one phone number, by anybody."""
    codes: Quota | None
    """`MIRROR_LIMIT_CODES`: SMS codes asked for or entered, from one address. Texts have limits of their own in
    `mirror.otp_settings`; this keeps a flood away from them."""
    unsigned: Quota | None
    """`MIRROR_LIMIT_UNSIGNED`: hooks without a right signature and wrong tokens, from one address."""
    unsigned_at_one: Quota | None
    """`MIRROR_LIMIT_UNSIGNED_AT_ONE`: hooks without a right signature, for one integration, by anybody."""


DEFAULTS = {
    "tracking": "600/60",
    "guesses": "120/600",
    "guesses_at_one": "100/3600",
    "codes": "60/60",
    "unsigned": "60/60",
    "unsigned_at_one": "600/60",
}
"""A mobile network puts many customers behind one address; so what finds something may be asked often."""


def variable(name: str) -> str:
    """Return the environment variable that sets a limit."""
    return f"MIRROR_LIMIT_{name.upper()}"


def parsed(name: str, text: str) -> Quota | None:
    """Read 60/600 or off; raise ValueError if it is neither."""
    if text.strip() == OFF:
        return None
    found = PATTERN.fullmatch(text.strip())
    if not found or not int(found[1]) or not int(found[2]):
        raise ValueError(text)
    return Quota(name.replace("_", "-"), int(found[1]), int(found[2]))
