r"""Where a text holds personal data and secrets: one finder a type.

What enters: a text. What leaves: spans with the canonical value of what they hold. Invariant: a finder looks at a
character a bounded number of times, so that no text makes it slow; what a check digit, a registry or a numbering plan
can tell apart is told apart.

Precision, by type: `card` and `iban` are verified by check digits (a random run of digits passes Luhn one time in ten,
and must begin and measure as an issuer's do; an IBAN one time in 97); `ip` is any well-formed public address that does
not follow the word version; `phone` is a number that the country's numbering plan has (`phonenumbers`); `api_key` is a
format of a known issuer, or a random-looking value that is assigned to a name such as api_key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from datapipe.steps.pii_checks import card_number, entropy, iban, public_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Found(NamedTuple):
    """A piece of personal data: text[start:end], and its canonical form."""

    start: int
    end: int
    value: str


_EMAIL: Final = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-]|\.[A-Za-z0-9])"
)
_IPV4: Final = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6: Final = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:.]{3,45}(?![\w:]))[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}")
_VERSION: Final = re.compile(r"(?:\bv(?:er(?:sion)?)?\.?|\brelease|\brev(?:ision)?\.?|\bsection|§)\s*$", re.IGNORECASE)
_PHONE: Final = re.compile(
    r"(?<![\w+.])\+[1-9](?:[ .\-/]?(?:\(0\)|\(\d{1,5}\)|\d)){6,14}(?![\w])"
    r"|(?<![\w.+/-])(?:\(\d{2,5}\) ?|\d{2,5}[ .-])\d{2,4}[ .-]?\d{2,4}(?:[ .-]\d{2,4})?(?![\w-])"
)
_CARD: Final = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?= ?[A-Z0-9])")
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN (?P<kind>(?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:[^-]|-(?!----END)){0,20000}(?:-----END (?P=kind)-----)?"
)
_API_KEY: Final = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"  # Amazon Web Services
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"  # GitHub
    r"|glpat-[A-Za-z0-9_-]{20,64}"  # GitLab
    r"|xox[abeprs]-[A-Za-z0-9-]{10,250}"  # Slack
    r"|AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}"  # Google
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,247}"  # Stripe
    r"|sk-(?:proj-|svcacct-|ant-[a-z0-9]{2,8}-)?[A-Za-z0-9_-]{20,200}"  # OpenAI, Anthropic
    r"|hf_[A-Za-z0-9]{34,40}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,250}"  # Hugging Face, npm, PyPI
    r"|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"  # SendGrid
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}"  # JSON web tokens, RFC 7519
    r")(?![A-Za-z0-9_-])"
)
_ASSIGNED: Final = re.compile(
    r"(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|(?:access|auth|bearer)[_-]?token|password|passwd)"
    r"[\"']?\s{0,4}[:=]\s{0,4}[\"']?([A-Za-z0-9_+/=.~-]{16,200})(?![A-Za-z0-9_+/=.~-])",
    re.IGNORECASE,
)
MIN_ENTROPY: Final = 3.5
"""Bits per character from which an assigned value counts as random: English words have 2.5 to 3.3 at such lengths,
random hexadecimal digits 3.5 to 4, base64 above 4 (detect-secrets, Yelp, uses 3 and 4.5)."""


def emails(text: str, region: str) -> Iterator[Found]:
    """Addresses as people write them (RFC 5321 without quoted local parts); case does not tell two apart."""
    del region
    for match in _EMAIL.finditer(text):
        if ".." not in match[0]:
            yield Found(*match.span(), match[0].lower())


def addresses(text: str, region: str) -> Iterator[Found]:
    """Public IPv4 and IPv6 addresses."""
    del region
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            value = public_address(match[0])
            if value is not None and not _VERSION.search(text, max(0, match.start() - 12), match.start()):
                yield Found(*match.span(), value)


def phones(text: str, region: str) -> Iterator[Found]:
    """Numbers with a country code, and those that are written as `region` (ISO 3166) writes them; "" for none."""
    import phonenumbers

    for match in _PHONE.finditer(text):
        international = match[0].startswith("+")
        if not international and not region:
            continue
        try:
            number = phonenumbers.parse(match[0], None if international else region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            yield Found(*match.span(), phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def cards(text: str, region: str) -> Iterator[Found]:
    """Payment cards."""
    del region
    for match in _CARD.finditer(text):
        if value := card_number(match[0]):
            yield Found(*match.span(), value)


def ibans(text: str, region: str) -> Iterator[Found]:
    """International bank account numbers."""
    del region
    for match in _IBAN.finditer(text):
        if found := iban(text, match.start()):
            yield Found(match.start(), *found)


def api_keys(text: str, region: str) -> Iterator[Found]:
    """Keys of known issuers, and random-looking values that are assigned to names such as api_key."""
    del region
    for match in _API_KEY.finditer(text):
        if any(c.isdigit() for c in match[0]) or match[0].startswith("eyJ"):
            yield Found(*match.span(), match[0])
    for match in _ASSIGNED.finditer(text):
        value = match[1]
        mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
        if mixed and entropy(value) >= MIN_ENTROPY:
            yield Found(*match.span(1), value)


def private_keys(text: str, region: str) -> Iterator[Found]:
    """PEM and OpenPGP private keys, whole; one whose end is missing, as far as it goes."""
    del region
    for match in _PRIVATE_KEY.finditer(text):
        yield Found(*match.span(), match[0])


FINDERS: Final[Mapping[str, Callable[[str, str], Iterator[Found]]]] = {
    "private_key": private_keys,
    "api_key": api_keys,
    "email": emails,
    "iban": ibans,
    "card": cards,
    "ip": addresses,
    "phone": phones,
}
"""In the order in which they have a right to a place in the text that several claim."""

SUSPECT: Final[Mapping[str, str]] = {
    "private_key": r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",
    "api_key": (
        r"AKIA|ASIA|ABIA|ACCA|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|AIza|GOCSPX-|[rs]k_(?:live|test)_|sk-|hf_|npm_"
        r"|pypi-|SG\.|eyJ|(?i:key|secret|token|password|passwd)[\"']?\s{0,4}[:=]"
    ),
    "email": r"@",
    "iban": r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]",
    "card": r"[0-9](?:[ -]?[0-9]){12}",
    "ip": r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f]:[0-9A-Fa-f:]{0,5}:|::[0-9A-Fa-f]",
    "phone": r"\+[1-9]|[0-9)][ .-][0-9]{2,4}[ .-]?[0-9]{2}",
}
"""What a text must hold before its finder is worth a call, for a regular expression engine without look-around."""
