"""Every driver of SMS keeps the same promises, whatever its provider answers: taken, final, refused, or try another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
import msgspec
import pytest
import respx

from api.sms.base import Driver, NotSent, Refused, Unavailable, Undeliverable
from api.sms.console import Console
from api.sms.dialog import Dialog
from api.sms.notifylk import NotifyLk
from api.sms.registry import DRIVERS
from api.sms.textlk import TextLk
from api.sms.twilio import Twilio

PHONE = "94771234567"
CODE = "493817"
TEXT = f"{CODE} is your code for My shop.\n\n@shop.example.com #{CODE}"
SINHALA = f"ඔබේ කේතය {CODE}"


def form(request: httpx.Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.content.decode()).items()}


def query(request: httpx.Request) -> dict[str, str]:
    return dict(request.url.params)


def json_body(request: httpx.Request) -> dict[str, str]:
    return msgspec.json.decode(request.content, type=dict[str, str])


def text(body: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, text=body)


def json(body: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


@dataclass
class Provider:
    """What a driver sends to a provider, and what the provider may answer."""

    driver: Driver
    address: str
    read: Callable[[httpx.Request], dict[str, str]]
    sends: dict[str, str]
    taken: list[httpx.Response]
    final: list[httpx.Response] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)
    passing: list[httpx.Response] = field(default_factory=list)
    credentials: dict[str, str] = field(default_factory=dict)


def twilio_error(code: int, status: int = 400) -> httpx.Response:
    message = f"The 'To' number +{PHONE} cannot get '{TEXT}'."
    return json({"code": code, "message": message, "more_info": "https://…", "status": status}, status)


PROVIDERS = {
    "notifylk": Provider(
        NotifyLk("10001", "a key", "MyShop"),
        "https://app.notify.lk/api/v1/send",
        form,
        {"user_id": "10001", "api_key": "a key", "sender_id": "MyShop", "to": PHONE, "message": TEXT},
        taken=[json({"status": "success", "data": "Sent"})],
        refused=[
            json({"status": "error", "errors": [f"Invalid number {PHONE}"]}),
            json({"status": "error", "message": f"no credit for {TEXT}"}, 400),
            json({}, 401),
            json({"status": None}),
        ],
    ),
    "textlk": Provider(
        TextLk("a token", "MyShop"),
        "https://app.text.lk/api/v3/sms/send",
        json_body,
        {"recipient": PHONE, "sender_id": "MyShop", "type": "plain", "message": TEXT},
        taken=[json({"status": "success", "message": "Your message was successfully delivered", "data": {"uid": "1"}})],
        refused=[
            json({"status": "error", "message": f'Sender ID "MyShop" may not send {TEXT} to {PHONE}.'}),
            json({"message": "Unauthenticated."}, 401),
            json({"status": "error"}, 403),
        ],
        credentials={"authorization": "Bearer a token"},
    ),
    "dialog": Provider(
        Dialog("a key", "MyShop"),
        "https://e-sms.dialog.lk/api/v1/message-via-url/create/url-campaign",
        query,
        {"esmsqk": "a key", "list": PHONE, "source_address": "MyShop", "message": TEXT},
        taken=[text("1"), text(" 1\r\n")],
        refused=[text("2007"), text("2008"), text("2006"), text("2999")],
        passing=[text("2001"), text("2011"), text(""), text("<html>1</html>"), text(f"{PHONE}{PHONE}"), text("\u0661")],
    ),
    "twilio": Provider(
        Twilio("AC1", "a token", "+15005550006"),
        "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
        form,
        {"To": f"+{PHONE}", "From": "+15005550006", "Body": TEXT},
        taken=[json({"sid": "SM1", "status": "queued"}, 201)],
        final=[twilio_error(21610), twilio_error(21614), twilio_error(21211)],
        refused=[
            twilio_error(20003, 401), twilio_error(21408), twilio_error(21606), json({}, 400), json({"code": "?"}, 404),
        ],
        credentials={"authorization": httpx.BasicAuth("AC1", "a token")._auth_header},
    ),
}  # fmt: skip
BROKEN = [text("<html>503</html>", 503), text("", 500), text("Too Many Requests", 429), json({}, 502)]
ODD = [text("<html>Welcome</html>"), text(""), httpx.Response(200, content=b"\xff\xfe"), json([1]), json("success")]
FAULTS = {
    httpx.ConnectError("refused"): False,
    httpx.ConnectTimeout("slow"): False,
    httpx.ReadTimeout("silent"): True,
    httpx.RemoteProtocolError("cut"): True,
}
EACH = pytest.mark.parametrize("name", PROVIDERS)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as opened:
        yield opened


async def send(client: httpx.AsyncClient, name: str, answer: Any, words: str = TEXT) -> httpx.Request:
    """Send a text through a driver whose provider answers so; return what it was asked."""
    provider = PROVIDERS[name]
    with respx.mock(assert_all_called=False) as providers:
        route = providers.route(url__startswith=provider.address).mock(side_effect=[answer])
        await provider.driver.send(client, PHONE, words)
    request: httpx.Request = route.calls.last.request
    return request


async def failure(client: httpx.AsyncClient, name: str, answer: Any) -> NotSent:
    with pytest.raises(NotSent) as caught:
        await send(client, name, answer)
    return caught.value


def test_every_driver_is_tried_here() -> None:
    assert set(PROVIDERS) | {"console"} == set(DRIVERS)
    assert {name: type(provider.driver) for name, provider in PROVIDERS.items()} == {
        name: kind for name, kind in DRIVERS.items() if name != "console"
    }


@EACH
async def test_a_text_goes_out_as_the_provider_documents_it(client: httpx.AsyncClient, name: str) -> None:
    provider = PROVIDERS[name]
    for answer in provider.taken:
        request = await send(client, name, answer)
        assert provider.read(request) == provider.sends
        assert provider.credentials.items() <= dict(request.headers).items()


@EACH
async def test_a_text_in_sinhala_goes_out_whole(client: httpx.AsyncClient, name: str) -> None:
    provider = PROVIDERS[name]
    request = await send(client, name, provider.taken[0], SINHALA)
    assert SINHALA in provider.read(request).values()
    assert (provider.read(request).get("type") == "unicode") == (name == "notifylk")


@EACH
@pytest.mark.parametrize(("kind", "error"), [("final", Undeliverable), ("refused", Refused), ("passing", Unavailable)])
async def test_what_the_provider_says_decides_what_is_done_next(
    client: httpx.AsyncClient, name: str, kind: str, error: type[NotSent]
) -> None:
    for answer in getattr(PROVIDERS[name], kind):
        assert type(await failure(client, name, answer)) is error, answer.text


@EACH
async def test_a_provider_that_is_broken_or_busy_is_unavailable(client: httpx.AsyncClient, name: str) -> None:
    for answer in BROKEN:
        failed = await failure(client, name, answer)
        assert isinstance(failed, Unavailable)
        assert failed.may_have_sent == (answer.status_code in {500, 502})


@EACH
async def test_an_odd_answer_is_no_success(client: httpx.AsyncClient, name: str) -> None:
    for answer in ODD:
        failed = await failure(client, name, answer)
        assert isinstance(failed, Unavailable)
        assert failed.may_have_sent


@EACH
async def test_whether_it_may_have_been_sent_is_told(client: httpx.AsyncClient, name: str) -> None:
    for fault, may_have_sent in FAULTS.items():
        failed = await failure(client, name, fault)
        assert (type(failed), failed.may_have_sent) == (Unavailable, may_have_sent)


@EACH
async def test_no_reason_holds_the_code_the_number_or_a_secret(client: httpx.AsyncClient, name: str) -> None:
    provider = PROVIDERS[name]
    for answer in [*provider.final, *provider.refused, *provider.passing, *BROKEN, *ODD, *FAULTS]:
        said = str(await failure(client, name, answer))
        assert not any(secret in said for secret in (CODE, PHONE, "a key", "a token", "AC1"))


@EACH
def test_no_driver_shows_its_secrets(name: str) -> None:
    shown = repr(PROVIDERS[name].driver)
    assert "a key" not in shown
    assert "a token" not in shown


async def test_twilio_may_send_by_a_messaging_service(client: httpx.AsyncClient) -> None:
    with respx.mock as providers:
        route = providers.post(PROVIDERS["twilio"].address).mock(return_value=json({"sid": "SM1"}, 201))
        await Twilio("AC1", "a token", "MG123").send(client, PHONE, TEXT)
    assert form(route.calls.last.request)["MessagingServiceSid"] == "MG123"
    assert "From" not in form(route.calls.last.request)


async def test_notify_lk_s_demo_sender_is_not_used(client: httpx.AsyncClient) -> None:
    with pytest.raises(Refused, match="demo sender"):
        await NotifyLk("1", "a key", "NotifyDEMO").send(client, PHONE, TEXT)


async def test_the_console_prints(client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    await Console().send(client, PHONE, TEXT)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert TEXT in printed.err
