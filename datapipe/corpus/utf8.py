"""Bytes that ought to be UTF-8 enter; text that Arrow can hold, and how many bytes were not, leave.

Invariant: whatever the bytes, a text comes out; and text that is right comes out as it is.
"""

from __future__ import annotations

import re
from typing import Final

_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def decode_counting(data: bytes) -> tuple[str, int]:
    """(text, bad bytes): every run that is not UTF-8 becomes U+FFFD, and each of its bytes is counted."""
    try:
        return data.decode("utf-8"), 0
    except UnicodeDecodeError:
        good = len(data.decode("utf-8", "ignore").encode("utf-8"))
        return data.decode("utf-8", "replace"), len(data) - good


def without_surrogates(text: str) -> tuple[str, int]:
    """(text, how many): halves of surrogate pairs, which JSON can spell and UTF-8 cannot, become U+FFFD."""
    if _SURROGATES.search(text) is None:
        return text, 0
    # Through UTF-16, where two halves that meet are one character.
    paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _SURROGATES.subn("\ufffd", paired)
