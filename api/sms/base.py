"""What a driver is: it hands one text to one provider of SMS, or says why not.

What goes wrong is named by what to do next, as everywhere:

    NotSent
    ├── Undeliverable    no provider will bring a text to this number: stop
    ├── Refused          this provider does not take it from us (key, credit, sender): try the next, and look into it
    └── Unavailable      it is away or busy: try the next; it may have sent the text all the same

A reason holds neither the text nor the number: providers quote both in what they say, so digits are struck out.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import httpx
import msgspec

MAX_REASON = 160
SERVER_ERROR = 500
TOO_MANY_REQUESTS = 429


class NotSent(Exception):  # noqa: N818 - named by what to do next
    """A provider did not take a text."""

    may_have_sent: bool = False

    def __init__(self, reason: str, *, may_have_sent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_have_sent = may_have_sent


class Undeliverable(NotSent):
    """The number cannot get it, whoever sends it."""


class Refused(NotSent):
    """The provider does not take it from us as we are set up."""


class Unavailable(NotSent):
    """The provider did not do its work this time."""


class Driver(Protocol):
    """A provider, with what it lets us in by. Its fields are the values of `VARIABLES`, by name."""

    VARIABLES: ClassVar[Mapping[str, str]]
    """Field → the environment variable that holds it."""

    async def send(self, client: httpx.AsyncClient, phone: str, text: str) -> None:
        """Hand over a text to a number (digits with country code); return once the provider has taken it.

        Raises:
            NotSent: it has not.
        """


async def ask(client: httpx.AsyncClient, method: str, url: str, **request: Any) -> httpx.Response:
    """Send a request to a provider; raise Unavailable if it does not answer it, or not now."""
    try:
        answer = await client.request(method, url, **request)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise Unavailable(f"cannot be reached: {type(error).__name__}") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"did not answer: {type(error).__name__}", may_have_sent=True) from None
    if answer.status_code == TOO_MANY_REQUESTS:
        raise Unavailable("has enough for now: HTTP 429")
    if answer.status_code >= SERVER_ERROR:
        is_before = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        raise Unavailable(f"is broken: HTTP {answer.status_code}", may_have_sent=not is_before)
    return answer


def read_answer(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object that a provider answered; raise Unavailable if it is none."""
    try:
        return msgspec.json.decode(answer.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unavailable(
            f"answered HTTP {answer.status_code} with something else than JSON", may_have_sent=answer.is_success
        ) from None


def masked(said: Any) -> str:
    """Return what a provider said without its digits: among them may be the code and the number."""
    return re.sub(r"\d[\d\s-]*", "#", str(said))[:MAX_REASON]
