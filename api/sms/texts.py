"""The words of a code's SMS, in the customer's language, ending in the line that browsers read (WebOTP).

The last line is `@domain #code`, and fills the code in on that domain only
(https://wicg.github.io/sms-one-time-codes).
"""

from urllib.parse import urlsplit

from api.stores import Store

WORDS = {
    "en": "{code} is your code for {shop}. It is valid for {minutes} minutes. Do not share it with anyone.",
    "si": "{shop} සඳහා ඔබේ කේතය {code}. එය මිනිත්තු {minutes}ක් වලංගු වේ. එය කිසිවෙකුට නොදෙන්න.",
    "ta": "{shop} க்கான உங்கள் குறியீடு {code}. இது {minutes} நிமிடங்களுக்கு செல்லுபடியாகும். யாரிடமும் பகிர வேண்டாம்.",
}
DEFAULT = "en"
MAX_NAME = 30
"""A longer name of a shop is cut, so that it does not make a second message."""


def code_text(store: Store, code: str, locale: str | None, *, seconds: int) -> str:
    """Return the text that brings a code, in the language of `locale`, else the store's, else English."""
    words = WORDS[_language(locale) or _language(store.locale) or DEFAULT]
    shop = " ".join(store.name.split())[:MAX_NAME]
    text = words.format(code=code, shop=shop, minutes=max(1, seconds // 60))
    domain = urlsplit(store.storefront_url or "").hostname
    return f"{text}\n\n@{domain} #{code}" if domain else text


def _language(locale: str | None) -> str | None:
    language = (locale or "").replace("_", "-").partition("-")[0].lower()
    return language if language in WORDS else None
