"""What every engine promises of its signature: what is let in, and what is said of what is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from environs import ValidationError

from sync.engines.base import BadSignature, Context
from sync.engines.registry import ENGINES
from sync.errors import Reject, Skip
from tests.engines import SENDERS, Sender


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest) -> Sender:
    return SENDERS[request.param]


def refusal(sender: Sender, headers: dict[str, str], body: bytes | None = None) -> str:
    with pytest.raises(BadSignature) as caught:
        sender.engine.verify(headers, sender.body if body is None else body, [sender.secret])
    return caught.value.reason


def test_the_suite_runs_over_every_engine() -> None:
    assert set(SENDERS) == set(ENGINES)


def test_a_signed_body_passes(sender: Sender) -> None:
    sender.engine.verify(sender.sign(sender.body), sender.body, [sender.secret])


def test_while_a_secret_is_rotated_either_will_do(sender: Sender) -> None:
    secret, other, body = sender.secret, sender.other_secret, sender.body
    sender.engine.verify(sender.sign(body, secret), body, [other, secret])
    sender.engine.verify(sender.sign(body, other), body, [other, secret])
    sender.engine.verify(sender.sign(body, other, secret), body, [secret])


def test_another_secret_does_not_pass(sender: Sender) -> None:
    assert "does not match" in refusal(sender, sender.sign(sender.body, sender.other_secret))


def test_a_changed_body_does_not_pass(sender: Sender) -> None:
    assert "does not match" in refusal(sender, sender.sign(sender.body), sender.body + b" ")


def test_a_missing_header_is_named(sender: Sender) -> None:
    for name in sender.engine.signature_headers:
        headers = {key: value for key, value in sender.sign(sender.body).items() if key != name}
        assert refusal(sender, headers) == f"The request is not signed: it lacks {name}."


@pytest.mark.parametrize("minutes", [-6, 6])
def test_an_attempt_of_another_time_does_not_pass(sender: Sender, minutes: int) -> None:
    headers = sender.sign(sender.body, at=datetime.now(UTC) + timedelta(minutes=minutes))
    reason = refusal(sender, headers)
    assert "five minutes" in reason
    assert "clock" in reason


@pytest.mark.parametrize("minutes", [-4, 4])
def test_an_attempt_of_nearly_now_passes(sender: Sender, minutes: int) -> None:
    headers = sender.sign(sender.body, at=datetime.now(UTC) + timedelta(minutes=minutes))
    sender.engine.verify(headers, sender.body, [sender.secret])


@pytest.mark.parametrize("time", ["yesterday", "nan", "1e400", "-", "", "9" * 400, "²"])
def test_a_time_that_is_none_is_explained(sender: Sender, time: str) -> None:
    headers = {**sender.sign(sender.body), sender.time_header: sender.with_time(time)}
    assert "Unix time" in refusal(sender, headers) or not time


@pytest.mark.parametrize(
    "written", ["v1", "v1,a,b", "v1,*", "v1,é", "v2,AAAA", ",", "v1,", "t=1", "t=1,v1=é", "t=,v1="]
)
def test_a_signature_that_is_none_does_not_pass(sender: Sender, written: str) -> None:
    refusal(sender, {**sender.sign(sender.body), sender.signature_header: written})


def test_a_body_that_is_no_text_does_not_pass(sender: Sender) -> None:
    assert "does not match" in refusal(sender, sender.sign(sender.body), b"\xff\xfe")


def test_no_reason_tells_a_secret_or_a_signature(sender: Sender) -> None:
    reason = refusal(sender, sender.sign(sender.body, sender.other_secret))
    expected = sender.sign(sender.body)[sender.signature_header]
    assert sender.secret not in reason
    assert expected[-32:] not in reason


def test_an_event_is_kept_word_for_word(sender: Sender) -> None:
    (event,) = sender.engine.read(sender.body)
    assert bytes(event.payload) in sender.body


def test_a_hook_of_a_kind_that_we_do_not_know_is_read_and_not_for_us(sender: Sender) -> None:
    (event,) = sender.engine.read(sender.unknown)
    with pytest.raises(Skip, match="not mirrored"):
        sender.engine.map(event.event_type, bytes(event.payload), Context(phone_region="LK"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "The body is not JSON in UTF-8: Input data was truncated."),
        (b"hello", "The body is not JSON in UTF-8: JSON is malformed"),
        (b'"\xff"', "The body is not JSON in UTF-8"),
        (b"[]", "The body: Expected `object`, got `array`"),
        (b'{"x":' + b"[" * 20_000, "The body is nested too deeply."),
    ],
    ids=["empty", "no JSON", "no UTF-8", "a list", "deep"],
)
def test_what_cannot_be_read_is_said(sender: Sender, body: bytes, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        sender.engine.read(body)
    assert caught.value.reason.startswith(reason)


def test_a_character_that_postgres_cannot_hold_is_replaced_and_nothing_else(sender: Sender) -> None:
    text = json.loads(sender.body)
    text["note"] = "@"
    (found,) = sender.engine.read(json.dumps(text).replace('"@"', r'"a\u0000b \\u0000 é \ud83d\ude00 \ud800"').encode())
    assert rb"\u0000b" not in bytes(found.payload).replace(rb"\\u0000", b"")


def test_its_own_secrets_are_taken_and_others_are_refused_unrepeated(sender: Sender) -> None:
    sender.engine.check_secrets([sender.secret, f" {sender.other_secret}"])
    for wrong in (["opensesame"], [sender.secret, ""], []):
        with pytest.raises(ValidationError) as caught:
            sender.engine.check_secrets(wrong)
        assert "opensesame" not in str(caught.value)
