"""What may be set of a store's face."""

from __future__ import annotations

import asyncpg
import pytest

from api.stores import Stores
from sync.database import connect
from tests.database.shop import Shop

GOOD = {
    "accent_color": ["#2457d6", "#AbCdEf"],
    "carrier_links": [
        "{}",
        '{"Koombiyo": "https://koombiyo.example/track?id={number}", "DHL Express": "https://dhl.example/{number}.html"}',
    ],
    "allowed_origins": ["{}", "{https://shop.example}", "{https://shop.example,http://localhost:5173}"],
}
BAD = {
    "accent_color": ["blue", "#fff", "#2457d6;}", "", "2457d6"],
    "carrier_links": [
        "[]",
        '"https://dhl.example/{number}"',
        '{"DHL": 1}',
        '{"DHL": null}',
        '{"DHL": ["https://dhl.example/{number}"]}',
        '{"DHL": "http://dhl.example/{number}"}',
        '{"DHL": "https://dhl.example/"}',
        '{"DHL": "javascript:alert({number})"}',
        '{"DHL": "https://dhl.example/{number}", "UPS": "https://ups.example/\\"><script>{number}"}',
    ],
    "allowed_origins": [
        "{*}",
        "{https://shop.example/}",
        "{shop.example}",
        '{"https://shop.example "}',
        "{null,https://shop.example}",
    ],
}


async def test_what_is_taken_and_what_is_refused(shop: Shop) -> None:
    for column, values in GOOD.items():
        for value in values:
            await shop.admin.run(f"update public.stores set {column} = $${value}$$")
    for column, values in BAD.items():
        for value in values:
            with pytest.raises(asyncpg.CheckViolationError):
                await shop.admin.run(f"update public.stores set {column} = $${value}$$")


async def test_the_api_knows_it(shop: Shop, database: str) -> None:
    await shop.admin.run(
        "update public.stores set accent_color = '#c0392b', allowed_origins = '{https://shop.example}', "
        """carrier_links = '{"DHL": "https://dhl.example/{number}"}'"""
    )
    async with connect(database) as opened:
        store = await Stores(opened).find(None)
    assert store is not None
    assert (store.currency, store.timezone, store.accent_color) == ("LKR", "Asia/Colombo", "#c0392b")
    assert store.carrier_links == {"DHL": "https://dhl.example/{number}"}
    assert store.allowed_origins == ["https://shop.example"]
