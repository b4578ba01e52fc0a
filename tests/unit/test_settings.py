"""Settings come from the environment, and one error lists all that is missing or wrong with it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from sync.settings import (
    Credentials,
    LexofficeAccess,
    Project,
    SettingsError,
    load_credentials,
    load_secrets,
    load_settings,
)

VARIABLES = [
    "DATABASE_URL", "SUPABASE_URL", "SUPABASE_SECRET_KEY", "MIRROR_HOME", "MIRROR_HOST", "MIRROR_PORT",
    "MIRROR_MAX_BODY_BYTES", "MIRROR_SLICE_SIZE", "MIRROR_LEASE_SECONDS", "MIRROR_POLL_SECONDS",
    "MIRROR_DATABASE_CONNECTIONS", "LEXOFFICE_API_KEY", "LEXOFFICE_API_URL",
]  # fmt: skip
GOOD = "whsec_" + base64.b64encode(b"a secret of twenty-four bytes or more").decode()
SHORT = "whsec_" + base64.b64encode(b"too short").decode()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_everything_has_a_default() -> None:
    settings = load_settings()
    assert (settings.database_url, settings.home) == (None, Path(".mirror"))
    assert (settings.host, settings.port) == ("127.0.0.1", 8787)
    assert settings.lease_seconds > settings.poll_seconds


def test_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@host/shop")
    monkeypatch.setenv("MIRROR_POLL_SECONDS", "0.5")
    settings = load_settings()
    assert (settings.database_url, settings.poll_seconds) == ("postgresql://me@host/shop", 0.5)


def test_a_project_is_an_address_and_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://abc.supabase.co")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_x")
    settings = load_settings()
    assert settings.database == Project("https://abc.supabase.co", "sb_secret_x")
    assert settings.database_variables == "SUPABASE_URL and SUPABASE_SECRET_KEY"
    assert "sb_secret_x" not in repr(settings)


def test_database_url_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://abc.supabase.co")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_x")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@host/shop")
    settings = load_settings()
    assert (settings.database, settings.database_variables) == ("postgresql://me@host/shop", "DATABASE_URL")


@pytest.mark.parametrize(
    ("given", "faulty"),
    [
        ({"SUPABASE_URL": "https://abc.supabase.co"}, ["SUPABASE_SECRET_KEY"]),
        ({"SUPABASE_SECRET_KEY": "sb_secret_x"}, ["SUPABASE_URL"]),
        ({"SUPABASE_URL": "abc.supabase.co", "SUPABASE_SECRET_KEY": ""}, ["SUPABASE_SECRET_KEY", "SUPABASE_URL"]),
        ({"SUPABASE_URL": "https://a.co", "SUPABASE_SECRET_KEY": "sb_publishable_x"}, ["SUPABASE_SECRET_KEY"]),
        ({"SUPABASE_URL": "https://a.co", "SUPABASE_SECRET_KEY": "sb_secret_x\n"}, ["SUPABASE_SECRET_KEY"]),
    ],
)
def test_half_a_project_is_none(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], faulty: list[str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == faulty
    assert "sb_" not in str(caught.value).replace("sb_secret_…", "")


def test_one_error_lists_all_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "DATABASE_URL": "mysql://me@host/shop", "MIRROR_PORT": "70000", "MIRROR_SLICE_SIZE": "many",
        "MIRROR_LEASE_SECONDS": "0", "MIRROR_POLL_SECONDS": "nan",
    }  # fmt: skip
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert [text.split(":")[0].strip() for text in message.splitlines()[1:]] == sorted(wrong)
    assert "MIRROR_PORT: must be from 0 to 65535" in message
    assert "postgresql://user:password@host" in message


@pytest.mark.parametrize(
    "address",
    [
        "mysql://me:opensesame@host/shop",
        "postgresql://me:opensesame#1@host/shop",
        "postgresql://me:opensesame/1@host/shop",
        "postgresql://me:opensesame?1@host/shop",
        "postgresql://me:[opensesame@host/shop",
        "postgresql://me:opensesame@host:port/shop",
        "postgresql://me:opensesame@host:70000/shop",
    ],
)
def test_a_wrong_address_is_not_repeated_for_it_may_hold_a_password(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "opensesame" not in str(caught.value)


def test_secrets_are_read_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    other = "whsec_" + base64.b64encode(b"another secret, of as many bytes").decode()
    monkeypatch.setenv("SHOP_SECRETS", f"{other}, {GOOD}")
    assert load_secrets(["SHOP_SECRETS"]) == {"SHOP_SECRETS": (other, GOOD)}


@pytest.mark.parametrize("value", ["", SHORT, GOOD.removeprefix("whsec_"), "whsec_***", f"{GOOD},{SHORT}", f"{GOOD},"])
def test_a_secret_that_is_none_is_explained_and_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SHOP_SECRETS", value)
    with pytest.raises(SettingsError) as caught:
        load_secrets(["SHOP_SECRETS", "OTHER_SECRETS"])
    message = str(caught.value)
    assert "OTHER_SECRETS: Environment variable" in message
    assert "SHOP_SECRETS: must be whsec_ and the base64 of at least 24 bytes" in message
    assert not value or value not in message


def test_credentials_are_read_for_each_integration_by_its_slug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDURE_API_URL", "https://shop.example.com/admin-api")
    monkeypatch.setenv("VENDURE_API_KEY", "opensesame")
    monkeypatch.setenv("MY_SHOP_API_URL", "http://shop:3000/admin-api")
    monkeypatch.setenv("MY_SHOP_API_USERNAME", "mirror")
    monkeypatch.setenv("MY_SHOP_API_PASSWORD", "opensesame")
    found = load_credentials(["vendure", "my-shop", "never-asked"])
    by_user = Credentials(api_url="http://shop:3000/admin-api", username="mirror", password="opensesame")
    assert found == {
        "vendure": Credentials(api_url="https://shop.example.com/admin-api", api_key="opensesame"),
        "my-shop": by_user,
    }
    assert "opensesame" not in repr(found)


@pytest.mark.parametrize(
    ("given", "complaints"),
    [
        ({"URL": "https://a.example"}, ["KEY: must be set, or A_API_USERNAME and A_API_PASSWORD"]),
        ({"KEY": "opensesame"}, ["URL: must be the http(s) address"]),
        ({"URL": "shop.example.com", "KEY": "opensesame"}, ["URL: must be the http(s) address"]),
        ({"URL": "https://a.example", "USERNAME": "me"}, ["PASSWORD: must be set, too"]),
        ({"PASSWORD": "opensesame"}, ["URL: must be the http(s) address", "USERNAME: must be set, too"]),
        (
            {"URL": "https://a.example", "KEY": "opensesame", "USERNAME": "me", "PASSWORD": "opensesame"},
            ["PASSWORD: must not be set beside A_API_KEY", "USERNAME: must not be set beside A_API_KEY"],
        ),
    ],
)
def test_credentials_that_are_half_set_are_all_named(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], complaints: list[str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"A_API_{name}", value)
    monkeypatch.setenv("B_API_USERNAME", "me")
    with pytest.raises(SettingsError) as caught:
        load_credentials(["a", "b"])
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == len(complaints) + 2
    assert all(line.startswith(f"  A_API_{complaint}") for line, complaint in zip(lines, complaints, strict=False))
    assert "opensesame" not in str(caught.value)


def test_books_need_a_key_and_know_their_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().lexoffice is None
    monkeypatch.setenv("LEXOFFICE_API_KEY", "a-key")
    assert load_settings().lexoffice == LexofficeAccess("a-key", "https://api.lexware.io")
    monkeypatch.setenv("LEXOFFICE_API_KEY", "a key")
    monkeypatch.setenv("LEXOFFICE_API_URL", "api.lexware.io")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        "LEXOFFICE_API_KEY", "LEXOFFICE_API_URL"
    ]  # fmt: skip
