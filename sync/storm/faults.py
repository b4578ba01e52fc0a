"""What goes wrong in a storm, and how often: shares of requests, as data."""

import msgspec


class HookFaults(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a change on its way from the shop to the mirror, each as a share of one."""

    lost: float = 0
    """Never sent, and never again: reconcile has to find it."""
    doubled: float = 0
    """Sent, accepted, and sent again."""
    delayed: float = 0
    """Read now, sent seconds later, when newer ones may have passed it."""
    stale: float = 0
    """Sent with an earlier state as if it were read now, as from a replica that lags behind."""
    outdated: float = 0
    """An earlier state of it comes again, under another id, with the time at which that was read."""
    shuffled: float = 0
    """Of requests: its events in another order."""
    truncated: float = 0
    """Of requests: the body ends in the middle; sent again, whole."""
    forged: float = 0
    """Of requests: signed with another secret; sent again, rightly signed."""
    abandoned: float = 0
    """Of requests: the sender goes away before the answer; sent again."""


class ApiFaults(msgspec.Struct, frozen=True, kw_only=True):
    """How the Admin API answers, each as a share of its answers."""

    busy: float = 0
    """429 with Retry-After."""
    unavailable: float = 0
    """503."""
    truncated: float = 0
    """The JSON ends in the middle."""
    broken_off: float = 0
    """The connection ends in the middle of the answer."""
    slow: float = 0
    """It takes up to a second."""
    signed_out: float = 0
    """All sessions end: whoever has no API key has to log in again."""
    deaths_per_minute: float = 0
    """It is gone for some seconds, and so is everything that was in hand."""


class Faults(msgspec.Struct, frozen=True):
    """Both sides of the engine."""

    hooks: HookFaults
    api: ApiFaults


NONE = Faults(HookFaults(), ApiFaults())
LIGHT = Faults(
    HookFaults(
        lost=0.01, doubled=0.05, delayed=0.05, stale=0.01, outdated=0.02,
        shuffled=0.2, truncated=0.01, forged=0.01, abandoned=0.01,
    ),
    ApiFaults(busy=0.02, unavailable=0.01, truncated=0.01, broken_off=0.01, slow=0.05, signed_out=0.01),
)  # fmt: skip
HEAVY = Faults(
    HookFaults(
        lost=0.10, doubled=0.20, delayed=0.20, stale=0.05, outdated=0.10,
        shuffled=0.5, truncated=0.05, forged=0.05, abandoned=0.05,
    ),
    ApiFaults(
        busy=0.10, unavailable=0.05, truncated=0.05, broken_off=0.05, slow=0.10, signed_out=0.05, deaths_per_minute=2,
    ),
)  # fmt: skip

LEVELS = {"none": NONE, "light": LIGHT, "heavy": HEAVY}
