"""Errors, named by what to do next.

    SyncError
    ├── Retry    try the same again, later
    │   └── Await    … and do not let the others wait for it: it waits for something of its own
    ├── Reject   never try again: keep it, say why
    │   └── Unmigrated   … unless the database is migrated first
    └── Skip     nothing is wrong, and there is nothing to do

What carries a reason carries it for people: a sentence without secrets and without a customer's data.
"""


class SyncError(Exception):
    """Base of everything that is expected to go wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(SyncError):  # noqa: N818 - named by what to do next
    """A passing fault: the database is away, a lock was in the way, an engine has enough for now."""

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after
        """Seconds to wait before the next attempt, where the other side said so."""


class Await(Retry):
    """One thing waits for another that is still to come; what is with it need not wait."""


class Reject(SyncError):  # noqa: N818 - named by what to do next
    """It cannot work, however often it is tried."""


class Unmigrated(Reject):
    """The database lacks what was asked of it: it is older or newer than this version, or is just being migrated."""


class Skip(SyncError):  # noqa: N818 - named by what to do next
    """It is right, and not for us."""
