"""The key that signs customers' tokens: an EC key on P-256, as a JWK (RFC 7517), to be imported at Supabase.

The same key is here, to sign, and at Supabase, to check; Supabase publishes its public half. See
https://supabase.com/docs/guides/auth/signing-keys.
"""

import json
import uuid
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

CURVE = "P-256"
ALGORITHM = "ES256"


def make_token_key() -> str:
    """Return a new private key: a JWK on one line, with what Supabase wants of one."""
    key = ECKey.generate_key(CURVE, private=True)
    usage: dict[str, Any] = {"alg": ALGORITHM, "kid": str(uuid.uuid4()), "key_ops": ["sign", "verify"], "ext": True}
    return json.dumps({**usage, **key.as_dict(private=True)}, separators=(",", ":"))


def read_token_key(text: str) -> ECKey:
    """Return the key of a JWK; raise ValueError if it is none that can sign by ES256, or has no id."""
    try:
        key = ECKey.import_key(json.loads(text))
        is_right = key.is_private and key.curve_name == CURVE and bool(key.kid)
    except (ValueError, TypeError, KeyError, AttributeError, JoseError):
        is_right = False
    if not is_right:
        raise ValueError("must be a private key on P-256 as a JWK with a kid; `mirror token-key` makes one")
    return key
