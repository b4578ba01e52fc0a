"""Text.lk (Sri Lanka), API v3."""

from collections.abc import Mapping
from typing import ClassVar

import httpx
import msgspec

from api.sms.base import Refused, ask, masked, read_answer

URL = "https://app.text.lk/api/v3/sms/send"


class TextLk(msgspec.Struct, frozen=True):
    """An account of Text.lk."""

    VARIABLES: ClassVar[Mapping[str, str]] = {"api_token": "TEXTLK_API_TOKEN", "sender": "TEXTLK_SENDER"}

    api_token: str
    sender: str
    """An approved sender id, 11 characters at the most."""

    async def send(self, client: httpx.AsyncClient, phone: str, text: str) -> None:
        body = {"recipient": phone, "sender_id": self.sender, "type": "plain", "message": text}
        headers = {"Authorization": f"Bearer {self.api_token}", "Accept": "application/json"}
        said = read_answer(await ask(client, "POST", URL, json=body, headers=headers))
        if said.get("status") != "success":
            raise Refused(f"refused it: {masked(said.get('message') or said.get('status'))}")

    def __repr__(self) -> str:
        return f"TextLk(sender={self.sender!r}, …)"
