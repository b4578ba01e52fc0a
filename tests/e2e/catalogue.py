"""What the shop's admin sets up before the first customer comes: channels, prices, a coupon, a seller.

Three currencies with 0, 2 and 3 decimals: rupees and dinars in the default channel, yen in a channel of
its own.
"""

from __future__ import annotations

from typing import Any

from tests.e2e.graphql import Session
from tests.e2e.shop import Shop

JAPAN = "japan"
SELLER = "seller-scarves"
COUPON = "AVURUDU10"
SUPERADMIN = {"username": "superadmin", "password": "only-for-tests"}
KUWAITI_FILS_PER_CENT = 0.0098
YEN_PER_CENT = 0.0047


def log_in(shop: Shop) -> Session:
    """An admin's session that may do everything."""
    admin = Session(shop.admin_api)
    admin.do("login(username: String!, password: String!)", on="CurrentUser", **SUPERADMIN)
    return admin


def variants_by_sku(admin: Session) -> dict[str, str]:
    items = admin.query("{ productVariants(options: {take: 100}) { items { id sku } } }")["items"]
    return {item["sku"]: item["id"] for item in items}


def set_up(admin: Session) -> None:
    """Make the freshly populated shop ready for the script of actions."""
    _price_in_dinars(admin)
    products = _ids(admin, "products")
    japan = _create_channel(admin, JAPAN, "JPY", "East Asia", prices_include_tax=False)
    _assign(admin, "Products", {"productIds": products, "channelId": japan, "priceFactor": YEN_PER_CENT})
    _sell_in(admin, japan)
    _offer_scarves_by_another_seller(admin)
    _create_coupon(admin)


def _price_in_dinars(admin: Session) -> None:
    """Prices with all three decimals in use."""
    variants = admin.query("{ productVariants(options: {take: 100}) { items { id price } } }")["items"]
    prices = [
        {
            "id": variant["id"],
            "prices": [{"currencyCode": "KWD", "price": round(variant["price"] * KUWAITI_FILS_PER_CENT)}],
        }
        for variant in variants
    ]
    admin.do("updateProductVariants(input: [UpdateProductVariantInput!]!)", input=prices)


def _create_channel(
    admin: Session,
    code: str,
    currency: str,
    zone: str,
    *,
    prices_include_tax: bool,
    seller: str | None = None,
) -> str:
    zones = {item["name"]: item["id"] for item in admin.query("{ zones { items { id name } } }")["items"]}
    channel = admin.do(
        "createChannel(input: CreateChannelInput!)",
        on="Channel",
        input={
            "code": code,
            "token": code,
            "defaultLanguageCode": "en",
            "pricesIncludeTax": prices_include_tax,
            "defaultCurrencyCode": currency,
            "availableCurrencyCodes": [currency],
            "defaultTaxZoneId": zones[zone],
            "defaultShippingZoneId": zones[zone],
            "sellerId": seller,
        },
    )
    return str(channel["id"])


def _sell_in(admin: Session, channel: str) -> None:
    """Offer the shop's shipping and payment methods and its stock in a channel."""
    for kind, key in (
        ("ShippingMethods", "shippingMethodIds"),
        ("PaymentMethods", "paymentMethodIds"),
        ("StockLocations", "stockLocationIds"),
    ):
        _assign(admin, kind, {key: _ids(admin, kind[0].lower() + kind[1:]), "channelId": channel})


def _offer_scarves_by_another_seller(admin: Session) -> None:
    seller = admin.do("createSeller(input: CreateSellerInput!)", input={"name": "Scarves of Kandy"})["id"]
    channel = _create_channel(admin, SELLER, "LKR", "South Asia", prices_include_tax=True, seller=seller)
    scarf = variants_by_sku(admin)["SCARF-1"]
    _assign(admin, "ProductVariants", {"productVariantIds": [scarf], "channelId": channel, "priceFactor": 1})
    _sell_in(admin, channel)


def _create_coupon(admin: Session) -> None:
    admin.do(
        "createPromotion(input: CreatePromotionInput!)",
        on="Promotion",
        input={
            "enabled": True,
            "couponCode": COUPON,
            "conditions": [],
            "actions": [
                {
                    "code": "order_percentage_discount",
                    "arguments": [{"name": "discount", "value": "10"}],
                }
            ],
            "translations": [{"languageCode": "en", "name": "New Year: ten percent off"}],
        },
    )


def _assign(admin: Session, kind: str, values: dict[str, Any]) -> None:
    admin.do(f"assign{kind}ToChannel(input: Assign{kind}ToChannelInput!)", input=values)


def _ids(admin: Session, field: str) -> list[str]:
    return [item["id"] for item in admin.query(f"{{ {field}(options: {{take: 100}}) {{ items {{ id }} }} }}")["items"]]
