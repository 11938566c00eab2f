"""Many distinct chunks of text → where their words begin, worked out for all of them at once.

What enters: chunks (runs of characters without white space), one after the other. What leaves: the characters, and
where words begin in them. Invariant: the words are those of `split_chunk` (english_words.py), chunk by chunk; that is
the definition, and splits the chunks in which something rare could matter: an exception in reach, a run of full stops,
a number with a unit, a possible URL, many affixes. The rest, some nine in ten, follow from the classes of neighbouring
characters alone, and no loop goes over them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.steps import english_words
from datapipe.steps.characters import (
    ALPHA_POINTS,
    CURRENCIES,
    ICONS,
    LOWER_POINTS,
    PUNCTUATION_MARKS,
    QUOTES,
    UNITS,
    UPPER_POINTS,
)
from datapipe.steps.word_exceptions import EXCEPTIONS, LONGEST
from datapipe.steps.word_table import BASE, WordTable, character_keys, powers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

_PREFIX, _SUFFIX, _ALPHA, _LOWER, _UPPER, _DIGIT, _QUOTE, _ICON = (1 << k for k in range(8))
_STOP_AFTER, _AMOUNT, _HYPHEN, _BETWEEN, _OPERATOR, _RARE = (1 << k for k in range(8, 14))
_MOST_TURNS: Final = 6
"""Turns of taking affixes off after which a chunk is left to `split_chunk`."""
_INVERSE: Final = pow(BASE, -1, 1 << 64)


@final
@dataclass(frozen=True)
class ChunkWords:
    """The words of m chunks.

    Attributes:
        points: code points of the chunks, one chunk after the other, uint32[p].
        starts: where words begin, int64[w], ascending; the first of each chunk begins with it.
        counts: words of each chunk, int64[m].
    """

    points: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


def words_of_chunks(chunks: Sequence[str]) -> ChunkWords:
    """Where the words of `chunks` begin; no chunk is empty or has white space."""
    import numpy as np

    points = np.frombuffer("".join(chunks).encode("utf-32-le"), np.uint32)
    bounds = np.zeros(len(chunks) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, chunks), np.int64, len(chunks)), out=bounds[1:])
    # One class-less character before and after, so that every character has two neighbours.
    kinds = np.zeros(len(points) + 2, np.uint16)
    kinds[1:-1] = _classes()[points]
    begins = np.zeros(len(points) + 1, bool)
    begins[bounds] = True
    keys = _Keys(points, bounds)
    rare = _rare(points, kinds, bounds, begins)
    start, end = bounds[:-1].copy(), bounds[1:].copy()
    _affixes_off(points, kinds, keys, start, end, rare, begins)
    _infixes(points, kinds, start, end, rare, begins)
    _emoticons(keys, bounds, rare, begins)
    for k in np.flatnonzero(rare).tolist():
        low, high = int(bounds[k]), int(bounds[k + 1])
        begins[low + 1 : high] = False
        for word in english_words.split_chunk(chunks[k])[:-1]:
            low += len(word)
            begins[low] = True
    starts = np.flatnonzero(begins[:-1])
    return ChunkWords(points, starts, np.diff(np.searchsorted(starts, bounds)))


@final
class _Keys:
    """Keys (word_table.py) of any part of a chunk, by sums over its characters."""

    def __init__(self, points: npt.NDArray[np.uint32], bounds: npt.NDArray[np.int64]) -> None:
        import numpy as np

        lengths = np.diff(bounds)
        self.place = np.arange(len(points)) - np.repeat(bounds[:-1], lengths)  # of a character in its chunk
        longest = int(lengths.max(initial=0))
        down = powers(longest, _INVERSE)
        self.up = powers(longest)
        self.sums = np.zeros(len(points) + 1, np.uint64)
        np.cumsum(character_keys(points) * down[self.place], out=self.sums[1:])

    def of(self, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The keys of start … end, each within a chunk and not empty."""
        keys: npt.NDArray[np.uint64] = (self.sums[end] - self.sums[start]) * self.up[self.place[end - 1]]
        return keys


@functools.cache
def _classes() -> npt.NDArray[np.uint16]:
    """What the rules ask of a character, by code point."""
    import numpy as np

    table = np.zeros(0x110000, np.uint16)

    def add(flag: int, characters: object) -> None:
        table[np.fromiter((ord(each) for each in characters), np.int64)] |= np.uint16(flag)  # type: ignore[attr-defined]

    for flag, spans in ((_ALPHA, ALPHA_POINTS), (_LOWER | _STOP_AFTER, LOWER_POINTS), (_UPPER, UPPER_POINTS)):
        for span in spans:
            table[span.start : span.stop : span.step] |= np.uint16(flag)
    marks = PUNCTUATION_MARKS | QUOTES | ICONS
    add(_PREFIX, marks | CURRENCIES | frozenset("§%=—–"))
    add(_SUFFIX, marks | frozenset("—–"))
    add(_DIGIT, "0123456789")
    add(_QUOTE, QUOTES)
    add(_ICON, ICONS)
    add(_STOP_AFTER, frozenset("0123456789%²-+|(?:)") | PUNCTUATION_MARKS | QUOTES)
    add(_AMOUNT, {unit[0] for unit in UNITS} | CURRENCIES | set("UCA"))
    add(_HYPHEN, "-–—~")
    add(_BETWEEN, ":<>=/")
    add(_OPERATOR, "+-*^")
    add(_RARE, "…°$")
    return table


def _rare(
    points: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint16],
    bounds: npt.NDArray[np.int64],
    begins: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """The chunks with two full stops or two dashes side by side, an amount, or a rare character."""
    import numpy as np

    inside = ~begins[1:-1]  # is the next character of the same chunk
    here, after = kinds[1:-2], kinds[2:-1]
    odd = (kinds[1:-1] & _RARE) > 0
    odd[:-1] |= inside & (points[:-1] == ord(".")) & (points[1:] == ord("."))
    # Dashes side by side divide words; at the start of a chunk, as in --option, they do nothing.
    odd[:-1] |= inside & ~begins[:-2] & ((here & _HYPHEN) > 0) & ((after & _HYPHEN) > 0)
    odd[:-1] |= inside & ((here & _DIGIT) > 0) & ((after & _AMOUNT) > 0)
    found = np.zeros(len(bounds) - 1, bool)
    found[np.searchsorted(bounds, np.flatnonzero(odd), side="right") - 1] = True
    return found


def _affixes_off(
    points: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint16],
    keys: _Keys,
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    rare: npt.NDArray[np.bool_],
    begins: npt.NDArray[np.bool_],
) -> None:
    """Take prefixes and suffixes off every chunk: `start` and `end` move, `begins` is set, `rare` grows."""
    import numpy as np

    active = np.flatnonzero(~rare)
    for _ in range(_MOST_TURNS):
        active = active[end[active] > start[active]]
        low, high = start[active], end[active]
        first = kinds[low + 1]
        digit_next = (high - low > 1) & ((kinds[np.minimum(low + 2, len(kinds) - 1)] & _DIGIT) > 0)
        prefix = ((first & _PREFIX) > 0) | ((points[low] == ord("+")) & ~digit_next)
        rest = low + prefix
        suffix = _suffix(points, kinds, rest, high)
        exception = _excepted(keys, low, high)
        exception |= prefix & _excepted(keys, rest, high)
        exception |= (suffix > 0) & _excepted(keys, low, high - suffix)
        rare[active[exception]] = True
        moves = ~exception & (prefix | (suffix > 0))
        active = active[moves]
        start[active] = rest[moves]
        end[active] = (high - suffix)[moves]
        begins[start[active]] = True
        begins[end[active]] = True
    rare[active[end[active] > start[active]]] = True


def _suffix(
    points: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint16],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """How many characters go off at the end of low … high, as `english_words._suffix` says of chunks not rare."""
    import numpy as np

    size = high - low
    last = points[np.maximum(high - 1, 0)]
    kind = kinds[high]
    # The classes of the two characters before the last, 0 where there is none.
    before = np.where(size > 1, kinds[np.maximum(high - 1, 0)], 0)
    before_it = np.where(size > 2, kinds[np.maximum(high - 2, 0)], 0)
    taken = ((size > 0) & ((kind & _SUFFIX) > 0)).astype(np.int64)
    stop = (last == ord(".")) & (((before & _STOP_AFTER) > 0) | (((before & before_it) & _UPPER) > 0))
    taken[stop & (size > 0)] = 1
    taken[(last == ord("+")) & ((before & _DIGIT) > 0)] = 1
    apostrophe = np.isin(points[np.maximum(high - 2, 0)], (ord("'"), ord("’")))
    taken[(size > 1) & apostrophe & ((last == ord("s")) | (last == ord("S")))] = 2
    return taken


@functools.cache
def _exception_keys() -> npt.NDArray[np.uint64]:
    import numpy as np

    return np.sort(WordTable.of(list(EXCEPTIONS)).key)


@functools.cache
def _emoticon_keys() -> npt.NDArray[np.uint64]:
    """Keys of the first two words of what the affixes would break."""
    import numpy as np

    pairs = ["".join(run[:2]) for runs in english_words.broken_exceptions().values() for run in runs]
    return np.sort(WordTable.of(pairs).key)


def _among(values: npt.NDArray[np.uint64], sorted_keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    import numpy as np

    place = np.minimum(np.searchsorted(sorted_keys, values), len(sorted_keys) - 1)
    found: npt.NDArray[np.bool_] = sorted_keys[place] == values
    return found


def _excepted(keys: _Keys, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Is low … high one of the exceptions."""
    import numpy as np

    found = np.zeros(len(low), bool)
    near = np.flatnonzero((high > low) & (high - low <= LONGEST))
    found[near] = _among(keys.of(low[near], high[near]), _exception_keys())
    return found


def _infixes(
    points: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint16],
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    rare: npt.NDArray[np.bool_],
    begins: npt.NDArray[np.bool_],
) -> None:
    """Divide what is left of every chunk at its infixes; chunks that have one and a full stop may be URLs: `rare`."""
    import numpy as np

    # Is a character within what is left, and are its neighbours. Rules look no further.
    change = np.zeros(len(points) + 1, np.int8)
    some = end > start
    change[start[some]] += 1
    change[end[some]] -= 1
    left = np.zeros(len(points) + 2, bool)
    left[1:-1] = np.cumsum(change[:-1], dtype=np.int8) > 0
    first = np.zeros(len(points) + 2, bool)
    first[start[some] + 1] = True
    here = np.where(left, kinds, 0)[1:-1]
    before = np.where(left[:-2] & ~first[1:-1], kinds[:-2], 0)
    after = np.where(left[2:] & ~first[2:], kinds[2:], 0)
    alpha_after = (after & _ALPHA) > 0
    infix = (here & _ICON) > 0
    infix |= ((before & _DIGIT) > 0) & ((here & _OPERATOR) > 0) & (
        ((after & _DIGIT) > 0) | ((after > 0) & (np.append(points[1:], 0) == ord("-")))
    )  # fmt: skip
    dot = (points == ord(".")) & left[1:-1]
    infix |= dot & ((before & (_LOWER | _QUOTE)) > 0) & ((after & (_UPPER | _QUOTE)) > 0)
    infix |= (points == ord(",")) & ((before & _ALPHA) > 0) & alpha_after & left[1:-1]
    word_before = (before & (_ALPHA | _DIGIT)) > 0
    infix |= ((here & (_HYPHEN | _BETWEEN)) > 0) & word_before & alpha_after
    infix &= ~first[1:-1]
    at = np.flatnonzero(infix)
    owner = np.searchsorted(end, at, side="right")
    dots = np.flatnonzero(dot)
    has_dot = np.searchsorted(dots, end[owner]) > np.searchsorted(dots, start[owner])
    rare[owner[has_dot]] = True
    begins[at] = True
    begins[at + 1] = True


def _emoticons(
    keys: _Keys,
    bounds: npt.NDArray[np.int64],
    rare: npt.NDArray[np.bool_],
    begins: npt.NDArray[np.bool_],
) -> None:
    """Chunks in which two words side by side could begin an exception that was broken up: `rare`."""
    import numpy as np

    starts = np.flatnonzero(begins)  # the end of the last chunk is one
    low, high = starts[:-2], starts[2:]
    short = np.flatnonzero((high - low <= LONGEST) & ~np.isin(starts[1:-1], bounds))
    hit = short[_among(keys.of(low[short], high[short]), _emoticon_keys())]
    rare[np.searchsorted(bounds, low[hit], side="right") - 1] = True
