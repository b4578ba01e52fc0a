"""Tokens: who proved a phone number may read what is theirs, here and at Supabase, for a short time.

Supabase checks them by the same key (docs/otp.md says how it gets there); what they open is said once, in the policy
"customers read themselves".
"""

import time
import uuid

import msgspec
from joserfc import jwt

from api.settings import TokenSettings

ROLE = "authenticated"
"""The database role that PostgREST takes on, and the audience that Supabase expects."""


class Token(msgspec.Struct, frozen=True):
    """A signed token."""

    token: str
    expires_in: int
    """Seconds."""


class Tokens:
    """Signs them."""

    def __init__(self, settings: TokenSettings) -> None:
        self._settings = settings

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


def subject(store_id: uuid.UUID, phone: str) -> uuid.UUID:
    """Return whom a token is about: always the same for a number of a store, and no user's (those are version 4)."""
    return uuid.uuid5(store_id, phone)
