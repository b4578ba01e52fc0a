"""The only list of drivers: what `MIRROR_SMS` may name."""

from api.sms.base import Driver
from api.sms.console import Console
from api.sms.dialog import Dialog
from api.sms.notifylk import NotifyLk
from api.sms.textlk import TextLk
from api.sms.twilio import Twilio

DRIVERS: dict[str, type[Driver]] = {
    "console": Console,
    "notifylk": NotifyLk,
    "textlk": TextLk,
    "dialog": Dialog,
    "twilio": Twilio,
}
