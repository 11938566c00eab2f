"""What rules want to know of a word, worked out once per distinct word and kept in columns.

What enters: distinct words. What leaves: a `WordTable`, one row per word, whose columns are gathered by word code.
Invariant: columns depend on the word alone, and `key` is a polynomial: the key of two words written one after the
other is `key[a] * scale[b] + key[b]` (modulo 2**64), whatever the words are, so the key of any n-gram takes one
multiplication a word. Equal strings have equal keys. Unequal ones share a key by chance once in 2**64 pairs; text
made for it (Thue-Morse strings of more than 2,000 characters) can force it, and would then count as repeated.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.steps.characters import PUNCTUATION_AND_CONTROLS, SENTENCE_ENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

BASE: Final = 0x9E3779B97F4A7C15
"""Of the polynomial: odd, so that its powers never vanish (2**64 over the golden ratio)."""
SPACE_KEY: Final = 0xD1B54A32D192ED03
"""What a space between two words counts in an n-gram that is joined with spaces: any number no character has."""

OTHER: Final = 0
PUNCTUATION: Final = 1
END: Final = 2
"""Of `closing`: a word that can begin a sentence, one that goes on with it (all characters of category P), one that
ends it (spaCy's `Sentencizer`, its `punct_chars`)."""

_KNOWN, _SOLID, _ALPHA, _NOT_P, _END = 1, 2, 4, 8, 16


@final
@dataclass(frozen=True)
class WordTable:
    """Features of m words.

    Attributes:
        chars: length in characters, int32[m].
        utf8: length in bytes of UTF-8, int32[m].
        solid: has a character that datatrove does not count as punctuation, bool[m].
        alpha: has a character for which `str.isalpha` holds, bool[m].
        closing: OTHER, PUNCTUATION or END, uint8[m].
        key, scale: of the polynomial, uint64[m].
    """

    chars: npt.NDArray[np.int32]
    utf8: npt.NDArray[np.int32]
    solid: npt.NDArray[np.bool_]
    alpha: npt.NDArray[np.bool_]
    closing: npt.NDArray[np.uint8]
    key: npt.NDArray[np.uint64]
    scale: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, words: Sequence[str]) -> WordTable:
        """The features of `words`."""
        import numpy as np

        starts = np.zeros(len(words) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=starts[1:])
        return cls.of_points(np.frombuffer("".join(words).encode("utf-32-le"), np.uint32), starts)

    @classmethod
    def of_points(cls, points: npt.NDArray[np.uint32], starts: npt.NDArray[np.int64]) -> WordTable:
        """The features of words that lie one after the other: word i is the code points starts[i] … starts[i + 1]."""
        import numpy as np

        chars = np.diff(starts).astype(np.int32)
        flags = _flags_of(points)
        size = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
        up = powers(int(chars.max(initial=0)))
        exponents = np.repeat(starts[1:], chars) - 1 - np.arange(len(points))
        filled = chars > 0
        some = _any_of(flags, starts, filled)
        closing = np.where((some & _NOT_P) == 0, PUNCTUATION, OTHER).astype(np.uint8)
        closing[~filled] = OTHER
        single = np.flatnonzero(chars == 1)
        closing[single[(flags[starts[single]] & _END) > 0]] = END
        return cls(
            chars=chars,
            utf8=_sums(size.astype(np.int32), starts, filled),
            solid=(some & _SOLID) > 0,
            alpha=(some & _ALPHA) > 0,
            closing=closing,
            key=_sums(character_keys(points) * up[exponents], starts, filled),
            scale=up[chars],
        )

    def plus(self, other: WordTable) -> WordTable:
        """The rows of this table, then the other's."""
        import numpy as np

        return WordTable(
            *(np.concatenate((getattr(self, name), getattr(other, name))) for name in WordTable.__dataclass_fields__)
        )

    def __len__(self) -> int:
        return len(self.chars)


def character_keys(points: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.uint64]:
    """Code points as numbers that have nothing in common (splitmix64; Steele et al. 2014, figure 16)."""
    import numpy as np

    z = (points.astype(np.uint64) + np.uint64(1)) * np.uint64(BASE)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def powers(highest: int, base: int = BASE) -> npt.NDArray[np.uint64]:
    """`base` to the power 0 … highest, modulo 2**64."""
    import numpy as np

    factors = np.full(highest + 1, base, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


def _sums(values: npt.NDArray[np.generic], starts: npt.NDArray[np.int64], filled: npt.NDArray[np.bool_]) -> npt.NDArray:  # type: ignore[type-arg]
    """The sum of each word's values; 0 for the empty word."""
    import numpy as np

    sums = np.zeros(len(filled), values.dtype)
    if filled.any():
        sums[filled] = np.add.reduceat(values, starts[:-1][filled], dtype=values.dtype)
    return sums


def _any_of(
    flags: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], filled: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """The flags that any of a word's characters has."""
    import numpy as np

    some = np.zeros(len(filled), np.uint8)
    if filled.any():
        some[filled] = np.bitwise_or.reduceat(flags, starts[:-1][filled])
    return some


_FLAGS: list[npt.NDArray[np.uint8]] = []


def _flags_of(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """What Python and datatrove know of each character; the table of all characters fills up as they are met."""
    import numpy as np

    if not _FLAGS:
        _FLAGS.append(np.zeros(0x110000, np.uint8))
    table = _FLAGS[0]
    flags = table[points]
    if flags.all():
        return flags
    for point in np.unique(points[flags == 0]).tolist():
        character = chr(point)
        table[point] = (
            _KNOWN
            | (_SOLID if character not in PUNCTUATION_AND_CONTROLS else 0)
            | (_ALPHA if character.isalpha() else 0)
            | (_NOT_P if unicodedata.category(character)[0] != "P" else 0)
            | (_END if character in SENTENCE_ENDS else 0)
        )
    return table[points]
