"""PostgREST itself, a process for each database."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

import httpx
import jwt

from sync.embedded import free_port

START_SECONDS = 30


class PostgREST:
    """A running PostgREST, which is told a role by a token, as behind Supabase's gateway."""

    def __init__(self, port: int, token_secret: str) -> None:
        self.tokens = {
            role: jwt.encode({"role": role}, token_secret, algorithm="HS256") for role in ("service_role", "anon")
        }
        self.address = f"http://127.0.0.1:{port}"
        self._client = httpx.AsyncClient(base_url=self.address, timeout=90)

    @classmethod
    @contextmanager
    def running(cls, program: str, dsn: str, *keys: Mapping[str, Any]) -> Iterator[Self]:
        """Run the program on a database, whose `authenticator` the DSN is for; these keys sign tokens for it, too."""
        port, admin_port, token_secret = free_port(), free_port(), secrets.token_hex(32)
        settings = {
            "PGRST_DB_URI": dsn,
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_JWT_SECRET": json.dumps({"keys": [_secret_key(token_secret), *keys]}),
            "PGRST_SERVER_HOST": "127.0.0.1",
            "PGRST_SERVER_PORT": str(port),
            "PGRST_ADMIN_SERVER_PORT": str(admin_port),
            "PGRST_LOG_LEVEL": "crit",
        }
        process = subprocess.Popen([program], env=os.environ | settings, stdout=subprocess.DEVNULL)
        try:
            _wait_until_ready(admin_port)
            yield cls(port, token_secret)
        finally:
            process.terminate()
            process.wait(30)

    async def call(self, role: str, function: str, body: bytes) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {self.tokens[role]}", "content-type": "application/json"}
        answer = await self._client.post(f"/rpc/{function}", content=body, headers=headers)
        return answer.status_code, answer.content

    async def close(self) -> None:
        await self._client.aclose()


def _secret_key(secret: str) -> dict[str, str]:
    """Return a secret as a JWK."""
    return {"kty": "oct", "alg": "HS256", "k": base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")}


def _wait_until_ready(port: int) -> None:
    for _ in range(START_SECONDS * 20):
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/ready").is_success:
                return
        time.sleep(0.05)
    raise RuntimeError(f"PostgREST was not ready within {START_SECONDS} s: see its log above.")
