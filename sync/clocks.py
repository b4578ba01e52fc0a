"""Whether what an engine tells is of now: a version from the future would win against all that comes after it.

An engine's clock orders its states, so one that is a little ahead does no harm. One that is years ahead, were it
believed for a minute, would leave the rows of that minute as they are for years. So what is ahead by more than a
signature may be (Standard Webhooks: five minutes) is not taken; once the clock is right, a reconcile reads it anew.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sync.database import Database

AHEAD = timedelta(minutes=5)


async def latest_version(database: Database, versions: Iterable[datetime]) -> datetime:
    """Return up to when versions may be taken now.

    The clock is the database's, which is asked only where one of these versions seems to be later by our own.
    """
    latest = datetime.now(UTC) + AHEAD
    if all(version <= latest for version in versions):
        return latest
    now: datetime = await database.call("read_clock")
    return now + AHEAD


def told_too_early(version: datetime) -> str:
    """Return why a version that is too late is not taken, and what to do."""
    return (
        f"the engine read it at {version.isoformat(' ', 'minutes')} by its clock, which is still to come: set the "
        "clock of the engine's database right; then `mirror reconcile --fix`, or the daemon's next one, reads it anew"
    )
