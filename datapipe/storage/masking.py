"""Credentials out of text: any text that may hold a URL, an option or a header enters, the same without secrets leaves.

Invariant: `mask(mask(text)) == mask(text)`, and of a URL's user part and of every query value whose name looks like a
secret nothing is left. Names are matched generously: a harmless value hidden costs little, a secret shown a lot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"sig|token|key|secret|passw|passphrase|pwd|cred|auth|policy|session|^x-(amz|goog|ms)|accessid|^sas|connection.?string|cookie",
    re.IGNORECASE,
)
# user:password@, up to the last '@' before the path: passwords hold '@' too, and '/', as AWS secrets do.
_USER: Final = re.compile(r"(?<=://)(?:[^/\s'\"]+|[^/\s@:'\"]+:[^\s@'\"]+(?:@[^/\s@'\"]+)*)@")
_QUERY: Final = re.compile(r"(?<=[?&;#])([^=&;?#\s'\"<>]+)=([^&;\s'\"<>]+)")
_NAME: Final = (
    r"(?:[\w.\-]*(?:secret|passw(?:or)?d|passphrase|token(?!s|i)|signature|credential|access.?key|api.?key|account.?key"
    r"|sas.?token|connection.?string)[\w.\-]*|(?<![\w.\-])pwd)"
)
# name='value', "name": "value"
_QUOTED: Final = re.compile(
    rf"(?i)(?P<name>{_NAME}|(?<=['\"])key(?=['\"])|\bkey(?==))"
    r"(?P<mid>['\"]?\s*[=:]\s*)(?P<quote>['\"])(?P<value>[^'\"]+)(?P=quote)"
)
# name=value, name = value, --name value, --name=value; with a colon only what is surely a secret ("token: 5" is none)
_BARE: Final = re.compile(
    rf"(?i)(?P<name>{_NAME}[ \t]*=[ \t]*|(?<![\w\-])--{_NAME}[ \t]+(?!-)|(?:[\w.\-]*(?:secret|passw(?:or)?d|passphrase"
    r"|access.?key|api.?key|account.?key)[\w.\-]*|(?<![\w.\-])pwd):[ \t]*)"
    r"[^\s'\",;&)}\]]+"
)
_HEADER: Final = re.compile(r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?)[^'\"\r\n]+|\b(bearer\s+)[\w.~+/=\-]{8,}")
# Keys that are told by their look: AWS access key ids, Hugging Face and GitHub tokens, Google API keys.
_KNOWN: Final = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AIza[\w\-]{30,})\b"
)


def mask(text: str) -> str:
    """`text` with every user part of a URL, secret query value, secret option and known kind of key replaced by ***."""
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(_query, text)
    text = _HEADER.sub(lambda m: f"{m.group(1) or m.group(2)}{HIDDEN}", text)
    text = _QUOTED.sub(_quoted, text)
    text = _BARE.sub(lambda m: f"{m['name']}{HIDDEN}", text)
    return _KNOWN.sub(HIDDEN, text)


def _query(found: re.Match[str]) -> str:
    return f"{found[1]}={HIDDEN}" if _SECRET_NAME.search(unquote(found[1])) else found[0]


def _quoted(found: re.Match[str]) -> str:
    return f"{found['name']}{found['mid']}{found['quote']}{HIDDEN}{found['quote']}"


def secrets_in(options: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The secret values among a store's options, nested ones included, longest first."""
    found = {value for value in _values(options or {}, secret=False) if len(value) >= 3}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def _values(value: Any, *, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _values(inner, secret=secret or bool(_SECRET_NAME.search(str(name))))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _values(inner, secret=secret)
    elif secret and isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        yield text
        yield quote(text, safe="")


def mask_values(text: str, secrets: tuple[str, ...]) -> str:
    """`mask(text)`, with every literal occurrence of one of `secrets` replaced too."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return mask(text)
