"""Tokens: who proved a phone number may read what is theirs, here and at Supabase, for a short time.

Supabase checks them by the same key (docs/otp.md says how it gets there); what they open is said once, in the policy
"customers read themselves".
"""

import time
import uuid

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError

from api.errors import BadTokenError
from api.settings import TokenSettings

ROLE = "authenticated"
"""The database role that PostgREST takes on, and the audience that Supabase expects."""


class Token(msgspec.Struct, frozen=True):
    """A signed token."""

    token: str
    expires_in: int
    """Seconds."""


class Proved(msgspec.Struct, frozen=True):
    """What a token says: whoever has it proved this number in this store."""

    store_id: uuid.UUID = msgspec.field(name="mirror_store")
    phone: str = msgspec.field(name="mirror_phone")
    """Digits with country code."""
    until: float = msgspec.field(name="exp")
    """The moment at which the token expires, in seconds since 1970."""


class Tokens:
    """Signs them, and knows its own."""

    def __init__(self, settings: TokenSettings) -> None:
        self._settings = settings
        self._expected = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": ROLE},
            role={"essential": True, "value": ROLE},
            exp={"essential": True},
        )

    def mint(self, store_id: uuid.UUID, phone: str) -> Token:
        """Return a token for whoever proved this number in this store."""
        now = int(time.time())
        header = {"alg": self._settings.algorithm, "typ": "JWT"}
        if self._settings.key.kid:
            header["kid"] = self._settings.key.kid
        claims = {
            "iss": self._settings.issuer,
            "sub": str(subject(store_id, phone)),
            "aud": ROLE,
            "role": ROLE,
            "iat": now,
            "exp": now + self._settings.seconds,
            "mirror_store": str(store_id),
            "mirror_phone": phone,
        }
        signed = jwt.encode(header, claims, self._settings.key, algorithms=[self._settings.algorithm])
        return Token(signed, self._settings.seconds)

    def read(self, token: str) -> Proved:
        """Return what a token of ours says; raise BadTokenError if it is none, or no longer holds."""
        for key in (self._settings.key, *self._settings.old_keys):
            try:
                claims = jwt.decode(token, key, algorithms=[self._settings.algorithm]).claims
                self._expected.validate(claims)
                return msgspec.convert(claims, Proved)
            except (JoseError, msgspec.ValidationError, ValueError, TypeError, AttributeError):
                continue
        raise BadTokenError


def subject(store_id: uuid.UUID, phone: str) -> uuid.UUID:
    """Return whom a token is about: always the same for a number of a store, and no user's (those are version 4)."""
    return uuid.uuid5(store_id, phone)
