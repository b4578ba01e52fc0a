"""Settings of SMS, tokens and hooks: read from the environment, and all that is wrong said at once."""

from __future__ import annotations

import base64
import json
import time
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from api.settings import load_edge_settings
from api.sms.dialog import Dialog
from api.sms.twilio import Twilio
from api.tokens import Tokens, subject
from sync.settings import SettingsError
from sync.token_keys import make_token_key

STORE = UUID("0197c8a0-0000-7000-8000-000000000001")
PHONE = "94771234567"
SECRET = "whsec_" + base64.b64encode(b"the secret of Supabase's hook...").decode()
OTHER = "whsec_" + base64.b64encode(b"the next secret of Supabase's...").decode()
LEGACY = "the legacy secret of a project, in plain characters"


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def wrong(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    environment(monkeypatch, **variables)
    with pytest.raises(SettingsError) as caught:
        load_edge_settings()
    return str(caught.value)


def test_without_settings_texts_are_printed_and_no_tokens_made() -> None:
    edge = load_edge_settings()
    assert [(route.name, route.segment_price) for route in edge.routes] == [("console", Decimal(0))]
    assert (edge.token, edge.send_sms_secrets, edge.trusted_proxies, edge.bcrypt_cost) == (None, (), (), 10)


def test_drivers_are_read_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(
        monkeypatch, MIRROR_SMS="dialog, twilio", DIALOG_API_KEY="k", DIALOG_SENDER="MyShop",
        DIALOG_SEGMENT_PRICE="0.64", TWILIO_ACCOUNT_SID="AC1", TWILIO_AUTH_TOKEN="t", TWILIO_SENDER="MG1",
    )  # fmt: skip
    first, second = load_edge_settings().routes
    assert (first.name, first.driver, first.segment_price) == ("dialog", Dialog("k", "MyShop"), Decimal("0.64"))
    assert (second.name, second.driver, second.segment_price) == ("twilio", Twilio("AC1", "t", "MG1"), Decimal(1))


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = wrong(
        monkeypatch, MIRROR_SMS="dialog,pigeon", DIALOG_SENDER=" ", DIALOG_SEGMENT_PRICE="-1", MIRROR_BCRYPT_COST="4",
        MIRROR_TOKEN_KEY="{}", MIRROR_TOKEN_SECRET="short", MIRROR_TOKEN_SECONDS="86400",
        MIRROR_SEND_SMS_SECRETS="v1,whsec_short", MIRROR_TRUSTED_PROXIES="10.0.0.1/8",
    )  # fmt: skip
    assert [line.split(":")[0].strip() for line in said.splitlines()[1:]] == [
        "DIALOG_API_KEY", "DIALOG_SEGMENT_PRICE", "DIALOG_SENDER", "MIRROR_BCRYPT_COST", "MIRROR_SEND_SMS_SECRETS",
        "MIRROR_SMS", "MIRROR_TOKEN_KEY", "MIRROR_TOKEN_SECONDS", "MIRROR_TOKEN_SECRET", "MIRROR_TRUSTED_PROXIES",
    ]  # fmt: skip
    assert "console, notifylk, textlk, dialog, twilio" in said


@pytest.mark.parametrize("names", ["", "console,console"])
def test_a_list_of_drivers_names_each_once(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    assert "MIRROR_SMS" in wrong(monkeypatch, MIRROR_SMS=names)


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        (f"v1,{SECRET}", (SECRET,)),
        (f"v1,{SECRET}|v1,{OTHER}", (SECRET, OTHER)),
        (f"v1,{SECRET}, v1,{OTHER}", (SECRET, OTHER)),
        (f"{SECRET},{OTHER}", (SECRET, OTHER)),
    ],
)
def test_the_hook_s_secrets_are_read_as_supabase_writes_them(
    monkeypatch: pytest.MonkeyPatch, value: str, secrets: tuple[str, ...]
) -> None:
    environment(monkeypatch, MIRROR_SEND_SMS_SECRETS=value)
    assert load_edge_settings().send_sms_secrets == secrets


def test_no_settings_show_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_token_key()
    environment(monkeypatch, MIRROR_TOKEN_KEY=key)
    assert json.loads(key)["d"] not in repr(load_edge_settings())


# Tokens


def test_a_token_says_who_proved_which_number_where(monkeypatch: pytest.MonkeyPatch) -> None:
    key = json.loads(make_token_key())
    environment(monkeypatch, MIRROR_TOKEN_KEY=json.dumps(key), MIRROR_TOKEN_ISSUER="https://shop.example.com")
    settings = load_edge_settings().token
    assert settings is not None
    minted = Tokens(settings).mint(STORE, PHONE)
    public = {name: value for name, value in key.items() if name in {"kty", "crv", "x", "y", "kid"}}
    read = jwt.decode(minted.token, ECKey.import_key(public), algorithms=["ES256"])
    assert read.header == {"alg": "ES256", "typ": "JWT", "kid": key["kid"]}
    issued = read.claims.pop("iat")
    assert abs(issued - time.time()) < 5
    assert read.claims == {
        "iss": "https://shop.example.com", "aud": "authenticated", "role": "authenticated", "exp": issued + 3600,
        "sub": str(subject(STORE, PHONE)), "mirror_store": str(STORE), "mirror_phone": PHONE,
    }  # fmt: skip


def test_a_token_may_be_signed_with_the_legacy_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, MIRROR_TOKEN_SECRET=LEGACY, MIRROR_TOKEN_SECONDS="600")
    settings = load_edge_settings().token
    assert settings is not None
    minted = Tokens(settings).mint(STORE, PHONE)
    read = jwt.decode(minted.token, OctKey.import_key(LEGACY), algorithms=["HS256"])
    assert (read.header, minted.expires_in) == ({"alg": "HS256", "typ": "JWT"}, 600)


def test_a_number_of_a_store_is_always_the_same_subject_and_no_user() -> None:
    assert subject(STORE, PHONE) == subject(STORE, PHONE)
    assert len({subject(STORE, PHONE), subject(uuid4(), PHONE), subject(STORE, "94771234568")}) == 3
    assert subject(STORE, PHONE).version == 5


@pytest.mark.parametrize("spoilt", ["d", "kid"])
def test_a_key_that_cannot_sign_or_has_no_id_is_refused(monkeypatch: pytest.MonkeyPatch, spoilt: str) -> None:
    key = json.loads(make_token_key())
    del key[spoilt]
    assert "MIRROR_TOKEN_KEY: must be a private key" in wrong(monkeypatch, MIRROR_TOKEN_KEY=json.dumps(key))


def test_a_new_key_is_as_supabase_imports_it() -> None:
    key = json.loads(make_token_key())
    assert (key["kty"], key["crv"], key["alg"], key["key_ops"]) == ("EC", "P-256", "ES256", ["sign", "verify"])
    assert key["d"]
    assert key["kid"] != json.loads(make_token_key())["kid"]


def test_a_mistyped_limit_is_no_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said = wrong(monkeypatch, MIRROR_LIMIT_TRAKING="60/600")
    assert "MIRROR_LIMIT_TRAKING: there is no such limit" in said
    assert "MIRROR_LIMIT_TRACKING" in said
