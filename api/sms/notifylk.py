"""Notify.lk (Sri Lanka). It gives no message id, and says in the body whether it took the text."""

from collections.abc import Mapping
from typing import ClassVar

import httpx
import msgspec

from api.sms.base import Refused, ask, masked, read_answer
from api.sms.segments import is_gsm

URL = "https://app.notify.lk/api/v1/send"

DEMO_SENDER = "NotifyDEMO"


class NotifyLk(msgspec.Struct, frozen=True):
    """An account of Notify.lk."""

    VARIABLES: ClassVar[Mapping[str, str]] = {
        "user_id": "NOTIFYLK_USER_ID",
        "api_key": "NOTIFYLK_API_KEY",
        "sender": "NOTIFYLK_SENDER",
    }

    user_id: str
    api_key: str
    sender: str
    """An approved sender id: the demo sender must not carry codes."""

    async def send(self, client: httpx.AsyncClient, phone: str, text: str) -> None:
        if self.sender == DEMO_SENDER:
            raise Refused("NOTIFYLK_SENDER is the demo sender, which must not carry codes")
        form = {
            "user_id": self.user_id,
            "api_key": self.api_key,
            "sender_id": self.sender,
            "to": phone,
            "message": text,
        }
        if not is_gsm(text):
            form["type"] = "unicode"
        said = read_answer(await ask(client, "POST", URL, data=form))
        if said.get("status") != "success":
            raise Refused(f"refused it: {masked(said.get('errors') or said.get('message') or said.get('status'))}")

    def __repr__(self) -> str:
        return f"NotifyLk(sender={self.sender!r}, …)"
