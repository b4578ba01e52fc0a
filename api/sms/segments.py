"""How many messages a text becomes, which is what it costs (3GPP TS 23.038 and 23.040).

Text in the GSM alphabet has 160 characters in a message, 153 in each where it is split; a few characters, as € and [,
count twice. Any other text is UCS-2: 70, or 67 where it is split. No character is split itself.
"""

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = frozenset("\f^{}\\[~]|€")

GSM_WHOLE, GSM_PART = 160, 153
UCS2_WHOLE, UCS2_PART = 70, 67

BEYOND_UCS2 = 0xFFFF


def is_gsm(text: str) -> bool:
    """Tell whether the GSM alphabet has every character of a text."""
    return BASIC.union(EXTENDED).issuperset(text)


def segments(text: str) -> int:
    """Return how many messages a text takes; an empty one takes one."""
    if is_gsm(text):
        return _packed([2 if character in EXTENDED else 1 for character in text], GSM_WHOLE, GSM_PART)
    return _packed([2 if ord(character) > BEYOND_UCS2 else 1 for character in text], UCS2_WHOLE, UCS2_PART)


def _packed(widths: list[int], whole: int, part: int) -> int:
    if sum(widths) <= whole:
        return 1
    count, room = 1, part
    for width in widths:
        if width > room:
            count, room = count + 1, part
        room -= width
    return count
