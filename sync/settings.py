"""Settings: from the environment into one frozen struct.

Read once, at the start of a command. If anything is missing or wrong, one error lists all of it, by name.
"""

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from environs import Env, EnvValidationError, ValidationError

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix is public
PUBLISHABLE_PREFIX = "sb_publishable_"
MIN_SECRET_BYTES = 24
"""Standard Webhooks, "Signature scheme": between 24 and 64 bytes."""

MIN_TOKEN_LENGTH = 16

LEXOFFICE_URL = "https://api.lexware.io"

CREDENTIALS = {
    "api_url": "API_URL",
    "api_key": "API_KEY",
    "username": "API_USERNAME",
    "password": "API_PASSWORD",
}
"""Fields of `Credentials` → what their variables are called, after the integration's slug."""


class SettingsError(Exception):
    """The environment is not right; the message lists every variable that is missing or wrong."""


class Project(msgspec.Struct, frozen=True):
    """A Supabase project that is reached through its Data API only."""

    url: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Project({self.url!r})"


class LexofficeAccess(msgspec.Struct, frozen=True):
    """Where Lexware Office's API is, and the key that it lets us in by."""

    api_key: str
    api_url: str

    def __repr__(self) -> str:
        return f"LexofficeAccess({self.api_url!r}, …)"


Address = str | Project
"""Where the database is: `postgresql://…`, or a project behind its Data API."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    database_url: str | None
    """`DATABASE_URL`: the Supabase project's Postgres, direct or through a pooler."""
    project: Project | None
    """`SUPABASE_URL` and `SUPABASE_SECRET_KEY`: the project through its Data API, for want of a `DATABASE_URL`."""
    home: Path
    """`MIRROR_HOME`: folder of the embedded Postgres and its secrets."""
    host: str
    """`MIRROR_HOST`: address that the API listens on."""
    port: int
    """`MIRROR_PORT`: port that the API listens on; 0 takes a free one."""
    max_body_bytes: int
    """`MIRROR_MAX_BODY_BYTES`: a larger hook is refused with 413."""
    slice_size: int
    """`MIRROR_SLICE_SIZE`: how many events the daemon takes from the inbox at once, at the most."""
    lease_seconds: int
    """`MIRROR_LEASE_SECONDS`: after so long, the events of a worker that died are taken over."""
    poll_seconds: float
    """`MIRROR_POLL_SECONDS`: how often the daemon looks for events when no notification comes."""
    database_connections: int
    """`MIRROR_DATABASE_CONNECTIONS`: connections that each process opens to the database, at the most."""
    metrics_token: str | None
    """`MIRROR_METRICS_TOKEN`: whoever sends it may read /metrics. None: there are no metrics."""
    lexoffice: LexofficeAccess | None = None
    """`LEXOFFICE_API_KEY` and `LEXOFFICE_API_URL`: where the daemon books finished invoices. None: it books none."""

    @property
    def database(self) -> Address | None:
        """Where the database is; None: nowhere but in the embedded Postgres. `DATABASE_URL` goes first."""
        return self.database_url or self.project

    @property
    def database_variables(self) -> str:
        """Which variables say so, for messages."""
        return "SUPABASE_URL and SUPABASE_SECRET_KEY" if isinstance(self.database, Project) else "DATABASE_URL"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running engine is, and how to be let in: by a key, or by a user's name and password."""

    api_url: str
    api_key: str | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(api_url={self.api_url!r}, …)"


def load_settings() -> Settings:
    """Read the environment; raise SettingsError with all that is wrong."""
    env = Env(eager=False)
    values: dict[str, Any] = {
        "database_url": env.str("DATABASE_URL", None, validate=_is_postgres_url),
        "project": _load_project(env),
        "home": env.path("MIRROR_HOME", Path(".mirror")),
        "host": env.str("MIRROR_HOST", "127.0.0.1"),
        "port": env.int("MIRROR_PORT", 8787, validate=_between(0, 65535)),
        "max_body_bytes": env.int("MIRROR_MAX_BODY_BYTES", 4 * 1024 * 1024, validate=_between(1024, 2**30)),
        "slice_size": env.int("MIRROR_SLICE_SIZE", 1000, validate=_between(1, 10_000)),
        "lease_seconds": env.int("MIRROR_LEASE_SECONDS", 60, validate=_between(1, 3600)),
        "poll_seconds": env.float("MIRROR_POLL_SECONDS", 2.0, validate=_between(0.05, 3600)),
        "database_connections": env.int("MIRROR_DATABASE_CONNECTIONS", 4, validate=_between(1, 100)),
        "metrics_token": env.str("MIRROR_METRICS_TOKEN", None, validate=_is_long_token),
        "lexoffice": _load_lexoffice(env),
    }
    seal(env)
    return Settings(**values)


def _load_lexoffice(env: Env) -> LexofficeAccess | None:
    """Read how to reach Lexware Office; an address without a key is of no use, and no fault."""
    key = env.str("LEXOFFICE_API_KEY", None, validate=_is_lexoffice_key)
    url = env.str("LEXOFFICE_API_URL", LEXOFFICE_URL, validate=_is_lexoffice_url)
    return LexofficeAccess(key, url.rstrip("/")) if key else None


def _load_project(env: Env) -> Project | None:
    """Read where the Data API is; either variable needs the other."""
    if not any(os.environ.get(name) for name in ("SUPABASE_URL", "SUPABASE_SECRET_KEY")):
        return None
    url = env.str("SUPABASE_URL", validate=_is_web_address)
    return Project(url, env.str("SUPABASE_SECRET_KEY", validate=_is_key))


def seal(env: Env) -> None:
    """End the reading of an environment; raise SettingsError with all that is wrong."""
    try:
        env.seal()
    except EnvValidationError as error:
        raise SettingsError(_listed(_messages(error))) from None


def load_secrets(variables: list[str], check: Callable[[list[str]], None] | None = None) -> dict[str, tuple[str, ...]]:
    """Read the hook secrets that the integrations name: variable → secrets, the newest first.

    A variable holds secrets, separated by commas while one is rotated: `whsec_…` of Standard Webhooks, or as `check`
    has them. Raises SettingsError with every variable that is missing or wrong.
    """
    env = Env(eager=False)
    secrets = {name: env.list(name, subcast=str, validate=check or are_secrets) for name in variables}
    seal(env)
    return {name: tuple(secret.strip() for secret in values or ()) for name, values in secrets.items()}


def prefix_of(slug: str) -> str:
    """Return what the names of an integration's variables begin with."""
    return f"{slug.upper().replace('-', '_')}_"


def load_credentials(slugs: Iterable[str], addresses: Mapping[str, str | None] | None = None) -> dict[str, Credentials]:
    """Read how to reach the engines of these integrations: slug → credentials.

    Of the integration `my-shop`: `MY_SHOP_API_URL`, and `MY_SHOP_API_KEY` or `MY_SHOP_API_USERNAME` with
    `MY_SHOP_API_PASSWORD`. An integration with none of them is left out: its hooks arrive, and it is never asked.
    `addresses` has those of engines that are all at one address, where the rest is enough. Raises SettingsError with
    every variable that is missing or wrong.
    """
    found: dict[str, Credentials] = {}
    wrong: dict[str, list[str]] = {}
    for slug in slugs:
        prefix = prefix_of(slug)
        given = {name: os.environ.get(prefix + variable) or None for name, variable in CREDENTIALS.items()}
        if any(given.values()):
            given["api_url"] = given["api_url"] or (addresses or {}).get(slug)
        faults = _faults_of(given)
        wrong |= {prefix + CREDENTIALS[name]: [text.format(prefix)] for name, text in faults.items()}
        if given["api_url"] and not faults:
            found[slug] = Credentials(**cast(dict[str, str], given))
    if wrong:
        raise SettingsError(_listed(wrong))
    return found


def _faults_of(given: dict[str, str | None]) -> dict[str, str]:
    """Return what is wrong with credentials: field → a sentence, with {} for the prefix of the variables."""
    if not any(given.values()):
        return {}
    faults = {}
    if not _is_http_address(given["api_url"] or ""):
        faults["api_url"] = "must be the http(s) address of the engine's API, as in https://shop.example.com/admin-api"
    if given["api_key"]:
        faults |= {name: "must not be set beside {}API_KEY" for name in ("username", "password") if given[name]}
    elif not given["username"] and not given["password"]:
        faults["api_key"] = "must be set, or {0}API_USERNAME and {0}API_PASSWORD"
    else:
        faults |= {name: "must be set, too" for name in ("username", "password") if not given[name]}
    return faults


def _is_http_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        return False


def _messages(error: EnvValidationError) -> dict[str, list[str]]:
    return cast(dict[str, list[str]], error.error_messages)


def _listed(messages: dict[str, list[str]]) -> str:
    lines = [f"  {name}: {' '.join(map(str, texts))}" for name, texts in sorted(messages.items())]
    return "The environment is not right:\n" + "\n".join(lines)


def _is_long_token(value: str | None) -> None:
    if value is not None and len(value) < MIN_TOKEN_LENGTH:
        raise ValidationError(f"must have at least {MIN_TOKEN_LENGTH} characters; `openssl rand -hex 16` makes one.")


def _is_postgres_url(value: str | None) -> None:
    if value is None:
        return
    try:
        parts = urlsplit(value)
        is_one = parts.scheme in {"postgres", "postgresql"} and parts.port != 0 and not parts.fragment
    except ValueError:  # its text may quote the password
        is_one = False
    if not is_one:
        raise ValidationError(
            "must look like postgresql://user:password@host:5432/postgres, with /, #, ?, [, ] and @ in the password "
            "written as %2F, %23, %3F, %5B, %5D and %40."
        )


def _is_web_address(value: str) -> None:
    if not _is_http_address(value):
        raise ValidationError("must look like https://<ref>.supabase.co.")


def _is_key(value: str) -> None:
    if not value.isascii() or not value.isprintable() or " " in value or not value:
        raise ValidationError("must be a secret key of the project, sb_secret_…: Project Settings, API Keys.")
    if value.startswith(PUBLISHABLE_PREFIX):
        raise ValidationError("must be a secret key, sb_secret_…: this one is publishable, and may do nothing here.")


def _is_lexoffice_key(value: str | None) -> None:
    if value and (not value.isascii() or not value.isprintable() or " " in value):
        raise ValidationError("must be a key of Lexware Office's public API: Extensions, Public API.")


def _is_lexoffice_url(value: str) -> None:
    if not _is_http_address(value):
        raise ValidationError(
            f"must be the http(s) address of Lexware Office's API: {LEXOFFICE_URL}, if it is not set."
        )


def _between(low: float, high: float) -> Callable[[float], None]:
    def check(value: float) -> None:
        if not low <= value <= high:
            raise ValidationError(f"must be from {low:g} to {high:g}")

    return check


def are_secrets(values: list[str]) -> None:
    """Raise ValidationError if these are no secrets as `mirror secret` makes them."""
    for value in values or [""]:
        try:
            key = base64.b64decode(value.strip().removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not value.strip().startswith(SECRET_PREFIX) or len(key) < MIN_SECRET_BYTES:
            raise ValidationError(
                f"must be {SECRET_PREFIX} and the base64 of at least {MIN_SECRET_BYTES} bytes; "
                "`mirror secret` makes one. Several are separated by commas."
            )
