"""Whether digits that look like somebody's really are: check digits, lengths, address ranges.

What enters: a candidate, as it stands in a text. What leaves: its canonical form, or None. Invariant: two spellings of
one value have one canonical form.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from typing import Final

# Lengths by country: ISO 13616, SWIFT IBAN registry, release 97.
_IBAN_LENGTHS: Final = {
    "AD": 24,
    "AE": 23,
    "AL": 28,
    "AT": 20,
    "AZ": 28,
    "BA": 20,
    "BE": 16,
    "BG": 22,
    "BH": 22,
    "BI": 27,
    "BR": 29,
    "BY": 28,
    "CH": 21,
    "CR": 22,
    "CY": 28,
    "CZ": 24,
    "DE": 22,
    "DJ": 27,
    "DK": 18,
    "DO": 28,
    "EE": 20,
    "EG": 29,
    "ES": 24,
    "FI": 18,
    "FK": 18,
    "FO": 18,
    "FR": 27,
    "GB": 22,
    "GE": 22,
    "GI": 23,
    "GL": 18,
    "GR": 27,
    "GT": 28,
    "HR": 21,
    "HU": 28,
    "IE": 22,
    "IL": 23,
    "IQ": 23,
    "IS": 26,
    "IT": 27,
    "JO": 30,
    "KW": 30,
    "KZ": 20,
    "LB": 28,
    "LC": 32,
    "LI": 21,
    "LT": 20,
    "LU": 20,
    "LV": 21,
    "LY": 25,
    "MC": 27,
    "MD": 24,
    "ME": 22,
    "MK": 19,
    "MN": 20,
    "MR": 27,
    "MT": 31,
    "MU": 30,
    "NI": 28,
    "NL": 18,
    "NO": 15,
    "OM": 23,
    "PK": 24,
    "PL": 28,
    "PS": 29,
    "PT": 25,
    "QA": 29,
    "RO": 24,
    "RS": 22,
    "RU": 33,
    "SA": 24,
    "SC": 31,
    "SD": 18,
    "SE": 24,
    "SI": 19,
    "SK": 24,
    "SM": 27,
    "SO": 23,
    "ST": 25,
    "SV": 28,
    "TL": 23,
    "TN": 24,
    "TR": 26,
    "UA": 29,
    "VA": 22,
    "VG": 24,
    "XK": 20,
    "YE": 30,
}

# (first digits from, to, lengths): ISO/IEC 7812 ranges of the schemes that issue cards to people.
_ISSUERS: Final = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),  # Mastercard
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),  # American Express
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    ("644", "659", (16, 17, 18, 19)),  # Discover
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("300", "305", (14, 15, 16, 17, 18, 19)),  # Diners Club
    ("36", "36", (14, 15, 16, 17, 18, 19)),  # Diners Club
    ("38", "39", (14, 15, 16, 17, 18, 19)),  # Diners Club
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
)


def card_number(candidate: str) -> str | None:
    """The digits of a payment card: an issuer's prefix and length, and a right check digit (Luhn, ISO/IEC 7812-1)."""
    digits = "".join(c for c in candidate if c.isdigit())
    separators = {c for c in candidate if not c.isdigit()}
    if len(separators) > 1 or len(set(digits)) == 1 or not _issued(digits) or not _luhn(digits):
        return None
    return digits


def _issued(digits: str) -> bool:
    return any(low <= digits[: len(low)] <= high and len(digits) in lengths for low, high, lengths in _ISSUERS)


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban(text: str, start: int) -> tuple[int, str] | None:
    """The IBAN that begins at `start`: (where it ends, its 15 to 33 characters), or None.

    As many characters as its country has, single spaces between them allowed; the remainder by 97 is 1 (ISO 7064).
    """
    length = _IBAN_LENGTHS.get(text[start : start + 2])
    if length is None:
        return None
    found: list[str] = []
    at = start
    while at < len(text) and len(found) < length:
        if text[at] == " " and found and text[at - 1] != " ":
            at += 1
            continue
        if not ("0" <= text[at] <= "9" or "A" <= text[at] <= "Z"):
            return None
        found.append(text[at])
        at += 1
    if len(found) < length or (at < len(text) and text[at].isalnum()):
        return None
    value = "".join(found)
    digits = "".join(str(int(c, 36)) for c in value[4:] + value[:4])
    return (at, value) if int(digits) % 97 == 1 else None


def public_address(candidate: str) -> str | None:
    """An IP address (v4 or v6) that is reachable from anywhere (IANA special-purpose registries), in canonical form."""
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return None
    return str(address) if address.is_global and not address.is_multicast else None


def entropy(text: str) -> float:
    """Bits per character (Shannon) of the text's own character frequencies."""
    n = len(text)
    return -sum(count / n * math.log2(count / n) for count in Counter(text).values())
