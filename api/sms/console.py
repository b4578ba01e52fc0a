"""The console: texts are printed on standard error. For trying things out; nobody gets an SMS."""

import sys
from collections.abc import Mapping
from typing import ClassVar

import httpx
import msgspec


class Console(msgspec.Struct, frozen=True):
    """Prints."""

    VARIABLES: ClassVar[Mapping[str, str]] = {}

    async def send(self, _client: httpx.AsyncClient, phone: str, text: str) -> None:
        sys.stderr.write(f"SMS to +{phone}:\n{text}\n")
        sys.stderr.flush()
