"""The integrations whose hooks we take: from the database, with their engines and their secrets.

A new one is known at once, a changed one within half a minute, all without a restart but for their secrets, which
come from the environment.
"""

from uuid import UUID

import msgspec
import structlog

from api.cached import Cached
from sync.database import Database
from sync.engines.base import Engine
from sync.engines.registry import ENGINES
from sync.errors import Reject, Retry
from sync.settings import SettingsError, load_secrets

log = structlog.get_logger()


class Integration(msgspec.Struct, frozen=True):
    """An engine that is connected to a store, as far as taking its hooks goes."""

    id: UUID
    slug: str
    engine: Engine
    secrets: tuple[str, ...]


class Unprepared(msgspec.Struct, frozen=True):
    """An integration whose hooks cannot be taken, and why: words for our log and for whoever starts us."""

    fault: str


class Integrations:
    """The active integrations by slug."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known = Cached(self._read)

    async def find(self, slug: str) -> Integration | Unprepared | None:
        """Return an integration; None if there is none; raise Retry if that cannot be known now."""
        known = await self._known.get()
        if slug not in known:
            known = await self._known.refreshed()
        return known.get(slug)

    async def check(self) -> None:
        """Raise SettingsError with all that the active integrations lack; say so if the database is away."""
        try:
            known = await self._known.refreshed()
        except Retry as error:
            log.warning("api.database_away", reason=error.reason, meanwhile="hooks are answered 503")
            return
        except Reject as error:
            raise SettingsError(
                f"The database cannot be used: {error.reason}. Is it migrated? Run `mirror migrate`."
            ) from None
        faults = sorted({found.fault for found in known.values() if isinstance(found, Unprepared)})
        if faults:
            raise SettingsError("\n".join(faults))

    async def _read(self) -> dict[str, Integration | Unprepared]:
        rows = await self._database.rows("list_integrations")
        return {row["slug"]: _prepared(row["id"], row["slug"], row["engine"], row["secrets_variable"]) for row in rows}


def _prepared(integration_id: UUID, slug: str, engine: str, variable: str) -> Integration | Unprepared:
    """Put an integration together; one that lacks something must not stop the others."""
    if engine not in ENGINES:
        return Unprepared(
            f"Integration {slug}: this version does not know the engine {engine}. A newer mirror may; "
            "until then, set its is_active to false in mirror.integrations."
        )
    try:
        secrets = load_secrets([variable], ENGINES[engine].check_secrets)[variable]
        return Integration(integration_id, slug, ENGINES[engine], secrets)
    except SettingsError as error:
        return Unprepared(f"Integration {slug}: {error}")
