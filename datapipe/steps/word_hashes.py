"""Texts → one 64-bit hash per word, columnar: what shingles are made of.

What enters: UTF-8 documents. What leaves: the hashes of the words of all of them, in order, and how many each has.
Invariant: a hash is a function of the word's characters alone, on every machine and in every version of the libraries,
so that it can be stored and compared with one made years later. `RULE` names what a word is and how it is hashed.

The rule, version 1: the text in NFC, each code point in simple lower case (one to one; "İ" becomes "i"). A word is a
longest run of letters, marks, numbers (Unicode categories L, M, N) and "_"; but each code point of a script that is
written without spaces (`_SOLO`: Han, kana, Thai, Lao, Myanmar, Khmer) is a word of its own. NUL to the end of planes
0–3; nothing beyond is a letter. The hash of a word is its code points as the coefficients of a polynomial modulo 2^64,
evaluated at a fixed odd base, then mixed.

Why a polynomial: all hashes of a batch come from one cumulative sum over its characters, about 3 ns each, where a call
a word costs 80 ns. Modulo 2^64 two words can be made to collide on purpose only with 2^10 characters or more.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

RULE: Final = "words 1"
PIECE: Final = 1 << 17
"""Characters hashed at a time: arrays of 1 MiB, which a core's cache holds."""
LONGEST: Final = 1 << 25
"""Bytes of a document that are looked at; so a document of 1 GB costs what one of 32 MiB costs."""

_PLANES: Final = 0x32400
_SOLO: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark, zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana phonetic extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x20000, 0x323AF),  # Han, extensions B to H
)
_BASE: Final = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_MIX: Final = 0xD6E8FEB86659FD93


def word_hashes(documents: Sequence[bytes]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hash every word.

    Args:
        documents: UTF-8 text, about `PIECE` bytes in all (memory is some 40 bytes for each).

    Returns:
        uint64[w], the words of all documents in order, and int64[n], how many each document has.
    """
    import numpy as np

    if all(document.isascii() for document in documents):
        ends = np.cumsum([len(document) for document in documents], dtype=np.int64)
        letters = np.frombuffer(b"".join(documents).translate(_ascii_table()), np.uint8)
        return _hashed(letters, None, ends)
    texts = [unicodedata.normalize("NFC", document.decode("utf-8", "replace")) for document in documents]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    points = np.minimum(points, _PLANES - 1)
    lower, solo = _tables()
    return _hashed(lower[points], solo[points], ends)


def word_places(text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the words of one text are that `word_hashes` hashes, in the same order.

    Args:
        text: in NFC, as the hashes are made from.

    Returns:
        int64[w], int64[w]: the first character of each word, and the one after its last.
    """
    import numpy as np

    points = np.minimum(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32), _PLANES - 1)
    lower, solo = _tables()
    first, last = _edges(lower[points], solo[points], np.array([len(text)], np.int64))
    return first, last + 1


def pieces(document: bytes, size: int = PIECE) -> Iterator[bytes]:
    """A long document in pieces of at most `size` bytes; what lies beyond `LONGEST` is left out.

    It is cut after white space where there is any, else between characters.
    """
    start, end = 0, min(len(document), LONGEST)
    while end - start > size:
        cut = max(document.rfind(space, start, start + size) for space in (b" ", b"\n")) + 1
        if cut <= start:
            cut = start + size
            # 10xxxxxx continues a character.
            while cut > start + 1 and document[cut] & 0xC0 == 0x80:
                cut -= 1
        yield document[start:cut]
        start = cut
    while end < len(document) and end > start and document[end] & 0xC0 == 0x80:
        end -= 1
    yield document[start:end]


def _hashed(
    letters: npt.NDArray[Any], solo: npt.NDArray[np.bool_] | None, ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Words of characters (0: none of a word) in documents that end at `ends`."""
    import numpy as np

    n = len(letters)
    first, last = _edges(letters, solo, ends)
    powers, inverse = _powers(n)
    total = np.empty(n + 1, np.uint64)
    total[0] = 0
    terms = letters.astype(np.uint64)
    terms *= powers[:n]
    np.cumsum(terms, out=total[1:])
    words = total[last + 1]
    words -= total[first]
    words *= inverse[first]
    words ^= words >> np.uint64(32)
    words *= np.uint64(_MIX)
    counts = np.diff(np.searchsorted(first, ends), prepend=0)
    return words, counts


def _edges(
    letters: npt.NDArray[Any], solo: npt.NDArray[np.bool_] | None, ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first and the last character of each word."""
    import numpy as np

    n = len(letters)
    inside = np.zeros(n + 1, bool)
    np.not_equal(letters, 0, out=inside[:n])
    begins = inside[:n].copy()
    begins[1:] &= ~inside[: n - 1]
    closes = inside[:n] & ~inside[1:]
    # A word ends with its document.
    inner = ends[:-1][(ends[:-1] > 0) & (ends[:-1] < n)]
    begins[inner] |= inside[inner]
    closes[inner - 1] |= inside[inner - 1]
    if solo is not None and solo.any():
        solo &= inside[:n]
        begins |= solo
        closes |= solo
        begins[1:] |= inside[1:n] & solo[:-1]
        closes[:-1] |= inside[: n - 1] & solo[1:]
    return np.flatnonzero(begins), np.flatnonzero(closes)


@cache
def _ascii_table() -> bytes:
    return bytes(ord(chr(i).lower()) if chr(i).isalnum() or i == ord("_") else 0 for i in range(128)) + bytes(128)


@cache
def _tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """By code point: the lower-case code point or 0; whether it is a word of its own."""
    import numpy as np

    lower = np.zeros(_PLANES, np.uint32)
    for point in range(_PLANES - 1):
        letter = chr(point)
        if unicodedata.category(letter)[0] in "LMN" or letter == "_":
            lower[point] = ord(letter.lower()[0])
    solo = np.zeros(_PLANES, bool)
    for low, high in _SOLO:
        solo[low : high + 1] = True
    return lower, solo & (lower != 0)


_made: dict[str, tuple[Any, Any]] = {}


def _powers(n: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The base and its inverse to the powers 0 … n-1 at least, modulo 2^64."""
    import numpy as np

    made = _made.get("powers")
    if made is None or len(made[0]) < n:
        size = 1 << max(PIECE.bit_length(), n.bit_length())
        powers = []
        for base in (_BASE, pow(_BASE, -1, 1 << 64)):
            column = np.full(size, base, np.uint64)
            column[0] = 1
            powers.append(np.cumprod(column))
        made = _made["powers"] = (powers[0], powers[1])
    return made
