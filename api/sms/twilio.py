"""Twilio, Programmable Messaging (https://www.twilio.com/docs/messaging/api/message-resource)."""

from collections.abc import Mapping
from typing import ClassVar

import httpx
import msgspec

from api.sms.base import Refused, Undeliverable, ask, read_answer

URL = "https://api.twilio.com/2010-04-01/Accounts/{}/Messages.json"

MESSAGING_SERVICE = "MG"
"""How the id of a messaging service begins; it stands where a number or a sender's name can."""

FINAL = {21211: "no valid number", 21610: "its owner has unsubscribed", 21614: "no mobile number"}
"""What is wrong with the number itself (https://www.twilio.com/docs/api/errors)."""


class Twilio(msgspec.Struct, frozen=True):
    """An account of Twilio."""

    VARIABLES: ClassVar[Mapping[str, str]] = {
        "account_sid": "TWILIO_ACCOUNT_SID",
        "auth_token": "TWILIO_AUTH_TOKEN",
        "sender": "TWILIO_SENDER",
    }

    account_sid: str
    auth_token: str
    sender: str
    """A number of the account (+…), an alphanumeric sender, or the id of a messaging service (MG…)."""

    async def send(self, client: httpx.AsyncClient, phone: str, text: str) -> None:
        source = "MessagingServiceSid" if self.sender.startswith(MESSAGING_SERVICE) else "From"
        answer = await ask(
            client,
            "POST",
            URL.format(self.account_sid),
            data={"To": f"+{phone}", source: self.sender, "Body": text},
            auth=(self.account_sid, self.auth_token),
        )
        if answer.status_code == httpx.codes.CREATED:
            return
        code = read_answer(answer).get("code")
        if code in FINAL:
            raise Undeliverable(f"error {code}: {FINAL[code]}")
        raise Refused(f"error {code}, HTTP {answer.status_code}: see twilio.com/docs/api/errors")

    def __repr__(self) -> str:
        return f"Twilio(sender={self.sender!r}, …)"
