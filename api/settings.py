"""Settings of what faces the internet: SMS, tokens, the hook of Supabase Auth, proxies.

From the environment, like `sync.settings`; one error lists all that is wrong.
"""

import base64
import binascii
import ipaddress
import os
import re
from decimal import Decimal
from typing import Any, cast

import msgspec
from environs import Env, ValidationError, validate
from joserfc.jwk import ECKey, OctKey

from api.limits.quotas import DEFAULTS, Quotas, parsed, variable
from api.sms.base import Driver
from api.sms.registry import DRIVERS
from sync.links import VARIABLE as LINK_VARIABLE
from sync.settings import MIN_SECRET_BYTES, SECRET_PREFIX, are_secrets, seal
from sync.token_keys import ALGORITHM, read_token_key

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_PRICE = 10_000
MAX_HSTS_SECONDS = 2 * 365 * 86_400
MIN_LEGACY_BYTES = 32
"""RFC 7518, 3.2: a key for HS256 is at least as long as its hash."""

HOOK_SECRET_VERSION = "v1,"  # noqa: S105 - Supabase writes it before each secret


class Route(msgspec.Struct, frozen=True):
    """A way for texts: a driver, and what it charges."""

    name: str
    driver: Driver
    segment_price: Decimal
    """Of a message, in the store's currency."""


class TokenSettings(msgspec.Struct, frozen=True):
    """How tokens are signed."""

    key: ECKey | OctKey
    algorithm: str
    issuer: str
    seconds: int
    old_keys: tuple[ECKey, ...] = ()
    """Signed tokens until now: those hold until they expire."""

    def __repr__(self) -> str:
        return f"TokenSettings({self.algorithm!r}, {self.issuer!r}, …)"


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set here."""

    routes: tuple[Route, ...]
    """`MIRROR_SMS`: drivers, separated by commas; each is tried when those before it have failed."""
    bcrypt_cost: int
    """`MIRROR_BCRYPT_COST`: each step doubles what it takes to compare a code, here and for who steals the table."""
    token: TokenSettings | None
    """`MIRROR_TOKEN_KEY` (ES256) or `MIRROR_TOKEN_SECRET` (HS256, Supabase's legacy secret). None: no tokens."""
    send_sms_secrets: tuple[str, ...]
    """`MIRROR_SEND_SMS_SECRETS`: what Supabase Auth signs its Send-SMS hook with. Empty: the hook is off."""
    link_secrets: tuple[str, ...]
    """`MIRROR_LINK_SECRET`: what links to the tracking page are signed with. Empty: links end with the process."""
    streams: int
    """`MIRROR_STREAMS`: so many may watch orders at once, per process. Each holds a connection open."""
    streams_per_client: int
    """`MIRROR_STREAMS_PER_CLIENT`: and so many from one address, which a mobile network may share among many."""
    trusted_proxies: tuple[Network, ...]
    """`MIRROR_TRUSTED_PROXIES`: whose word on whom a request comes from is taken (X-Forwarded-For)."""
    hsts_seconds: int
    """`MIRROR_HSTS_SECONDS`: for so long browsers come back by HTTPS only. 0: not said, for want of TLS in front."""
    ready_lag_seconds: int
    """`MIRROR_READY_LAG_SECONDS`: while an event waits longer to be applied, /health/ready says 503. 0: never."""
    quotas: Quotas
    """`MIRROR_LIMIT_TRACKING` and others, as in 60/600 (so many in so many seconds) or off: api/limits/quotas.py."""
    max_connections: int
    """`MIRROR_MAX_CONNECTIONS`: each process holds so many open, at the most; more are answered 503."""


def load_edge_settings() -> EdgeSettings:
    """Read the environment; raise SettingsError with all that is wrong."""
    env = Env(eager=False)
    names = env.list("MIRROR_SMS", ["console"], subcast=lambda name: name.strip())
    env.list("MIRROR_SMS", ["console"], validate=_are_drivers)
    routes = [_load_route(env, name) for name in names or [] if name in DRIVERS]
    values: dict[str, Any] = {
        "bcrypt_cost": env.int("MIRROR_BCRYPT_COST", 10, validate=validate.Range(8, 14)),
        "token": _load_token(env),
        "link_secrets": env.list(LINK_VARIABLE, [], subcast=str, validate=_are_secrets_if_any),
        "send_sms_secrets": env.str("MIRROR_SEND_SMS_SECRETS", "", validate=_are_hook_secrets),
        "streams": env.int("MIRROR_STREAMS", 500, validate=validate.Range(0, 50_000)),
        "streams_per_client": env.int("MIRROR_STREAMS_PER_CLIENT", 30, validate=validate.Range(1, 50_000)),
        "trusted_proxies": env.list("MIRROR_TRUSTED_PROXIES", [], subcast=str, validate=_are_networks),
        "hsts_seconds": env.int("MIRROR_HSTS_SECONDS", 0, validate=validate.Range(0, MAX_HSTS_SECONDS)),
        "ready_lag_seconds": env.int("MIRROR_READY_LAG_SECONDS", 900, validate=validate.Range(0, 30 * 86_400)),
        "quotas": _load_quotas(env),
        "max_connections": env.int("MIRROR_MAX_CONNECTIONS", 1000, validate=validate.Range(1, 1_000_000)),
    }
    seal(env)
    values["link_secrets"] = tuple(secret.strip() for secret in values["link_secrets"] or ())
    values["send_sms_secrets"] = _hook_secrets(values["send_sms_secrets"])
    values["trusted_proxies"] = tuple(ipaddress.ip_network(text.strip()) for text in values["trusted_proxies"])
    return EdgeSettings(routes=tuple(cast(Route, route) for route in routes), **values)


def _load_route(env: Env, name: str) -> Route | None:
    """Read what a driver needs; None if something is missing, which `env` remembers."""
    kind = DRIVERS[name]
    fields = {field: env.str(variable, validate=_is_given) for field, variable in kind.VARIABLES.items()}
    price = env.decimal(f"{name.upper()}_SEGMENT_PRICE", Decimal(bool(fields)), validate=validate.Range(0, MAX_PRICE))
    return None if None in fields.values() else Route(name, kind(**fields), price)


def _load_quotas(env: Env) -> Quotas:
    texts = {name: env.str(variable(name), default, validate=_is_quota) for name, default in DEFAULTS.items()}
    for mistyped in sorted(_limits_set() - {variable(name) for name in DEFAULTS}):
        env.str(mistyped, validate=_is_no_limit)
    try:
        return Quotas(**{name: parsed(name, text) for name, text in texts.items()})
    except (ValueError, AttributeError):
        return Quotas(**dict.fromkeys(DEFAULTS))  # `env` remembers it


def _limits_set() -> set[str]:
    return {name for name in os.environ if name.startswith(variable(""))}


def _is_no_limit(_: str) -> None:
    raise ValidationError(f"there is no such limit; what there is: {', '.join(map(variable, DEFAULTS))}")


def _is_quota(value: str) -> None:
    try:
        parsed("", value)
    except ValueError:
        raise ValidationError("must be so many in so many seconds, as in 60/600, or off") from None


def _load_token(env: Env) -> TokenSettings | None:
    key = env.str("MIRROR_TOKEN_KEY", None, validate=_is_token_key)
    old = env.str("MIRROR_TOKEN_OLD_KEY", None, validate=lambda value: _is_old_key(value, beside=key))
    secret = env.str("MIRROR_TOKEN_SECRET", None, validate=lambda value: _is_legacy_secret(value, beside=key))
    issuer = env.str("MIRROR_TOKEN_ISSUER", "commerce-mirror", validate=_is_given)
    seconds = env.int("MIRROR_TOKEN_SECONDS", 3600, validate=validate.Range(60, 3600))
    try:
        if key:
            old_keys = (read_token_key(old),) if old else ()
            return TokenSettings(read_token_key(key), ALGORITHM, issuer, seconds, old_keys)
    except ValueError:
        return None  # `env` remembers it
    if secret:
        return TokenSettings(OctKey.import_key(secret), "HS256", issuer, seconds)
    return None


def _are_drivers(names: list[str]) -> None:
    unknown = [name for name in names if name.strip() not in DRIVERS]
    if unknown or not names:
        raise ValidationError(f"must be some of {', '.join(DRIVERS)}, separated by commas")
    if len({name.strip() for name in names}) < len(names):
        raise ValidationError("names a driver twice")


def _is_given(value: str | None) -> None:
    if not (value or "").strip():
        raise ValidationError("must not be empty")


def _is_token_key(value: str | None) -> None:
    try:
        if value is not None:
            read_token_key(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _is_old_key(value: str | None, *, beside: str | None) -> None:
    _is_token_key(value)
    if value is not None and beside is None:
        raise ValidationError("must be set beside MIRROR_TOKEN_KEY only: it was that before")


def _is_legacy_secret(value: str | None, *, beside: str | None) -> None:
    if value is None:
        return
    if beside is not None:
        raise ValidationError("must not be set beside MIRROR_TOKEN_KEY")
    if len(value.encode()) < MIN_LEGACY_BYTES:
        raise ValidationError(f"must have at least {MIN_LEGACY_BYTES} bytes: it is the project's legacy JWT secret")


def _hook_secrets(value: str) -> tuple[str, ...]:
    """Return the secrets, as the library for signatures takes them. Supabase puts `|` between two."""
    parts = re.split(r"[|,\s]+", value.replace(HOOK_SECRET_VERSION, " "))
    return tuple(part for part in parts if part)


def _are_hook_secrets(value: str) -> None:
    for secret in _hook_secrets(value):
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not secret.startswith(SECRET_PREFIX) or len(key) < MIN_SECRET_BYTES:
            raise ValidationError(
                f"must be v1,{SECRET_PREFIX}… as Supabase shows it for the hook; while one is rotated, both with | "
                "between them"
            )


def _are_secrets_if_any(values: list[str]) -> None:
    if values:
        are_secrets(values)


def _are_networks(values: list[str]) -> None:
    for value in values:
        try:
            ipaddress.ip_network(value.strip())
        except ValueError:
            raise ValidationError(
                "must be addresses or networks of proxies, as in 10.0.0.0/8, separated by commas"
            ) from None
