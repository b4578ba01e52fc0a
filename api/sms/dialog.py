"""Dialog eSMS (Sri Lanka), by its URL API. It answers HTTP 200 always; the body is a bare code."""

from collections.abc import Mapping
from typing import ClassVar

import httpx
import msgspec

from api.sms.base import Refused, Unavailable, ask

URL = "https://e-sms.dialog.lk/api/v1/message-via-url/create/url-campaign"

SENT = "1"
PASSING = {"2001": "an error on its side", "2011": "a transaction that failed"}
MEANINGS = {
    "2006": "the account may not use the URL API",
    "2007": "DIALOG_API_KEY is refused",
    "2008": "no credit is left",
}
MAX_CODE = 8


class Dialog(msgspec.Struct, frozen=True):
    """An account of Dialog eSMS."""

    VARIABLES: ClassVar[Mapping[str, str]] = {"api_key": "DIALOG_API_KEY", "sender": "DIALOG_SENDER"}

    api_key: str
    sender: str
    """The source address: the approved mask that the text comes from."""

    async def send(self, client: httpx.AsyncClient, phone: str, text: str) -> None:
        parameters = {"esmsqk": self.api_key, "list": phone, "source_address": self.sender, "message": text}
        answer = await ask(client, "GET", URL, params=parameters)
        code = answer.text.strip()
        if code == SENT:
            return
        if code in PASSING:
            raise Unavailable(f"answered {code}: {PASSING[code]}")
        if code.isascii() and code.isdigit() and len(code) <= MAX_CODE:
            raise Refused(f"answered {code}: {MEANINGS.get(code, 'see its list of codes')}")
        raise Unavailable(f"answered HTTP {answer.status_code} with no code", may_have_sent=answer.is_success)

    def __repr__(self) -> str:
        return f"Dialog(sender={self.sender!r}, …)"
