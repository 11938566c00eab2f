"""How much of each document its repeated n-grams are: the counts behind Gopher's repetition rules, as in datatrove.

What enters: words as codes, document by document, and their table. What leaves: for each document and n, the
characters of the most frequent n-gram times its count, or of all n-grams that were there before.
Invariant: the numbers are those of datatrove 0.10 (`gopher_repetition_filter.py`: `find_top_duplicate`,
`find_all_duplicate`) for the same lists of words: top n-grams are compared joined with spaces, the first of equally
frequent ones counts; duplicate n-grams are compared joined without, and after a duplicate the scan goes on behind it.
N-grams are compared by 64-bit keys (word_table.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.steps.first_seen import first_seen
from datapipe.steps.word_table import BASE, SPACE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.word_table import WordTable

_BATCH_WORDS: Final = 1 << 17
"""Words looked at together: the tables of this many fit a core's cache. A longer document is looked at alone."""


def repeated_ngrams(
    codes: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    table: WordTable,
    *,
    top: tuple[int, ...],
    duplicate: tuple[int, ...],
) -> dict[int, npt.NDArray[np.int64]]:
    """Characters of repeated n-grams by document.

    Args:
        codes: rows of `table`, word by word.
        offsets: int64[n + 1]; document i has the words offsets[i] … offsets[i + 1].
        table: features of the words.
        top: n of which the most frequent n-gram is wanted; a document of fewer words has 0.
        duplicate: n of which the n-grams that were there before are wanted; no n is in both.

    Returns:
        n → int64[documents]. Lengths in characters; of `top` the spaces between the words count too.
    """
    import numpy as np

    documents = len(offsets) - 1
    result = {n: np.zeros(documents, np.int64) for n in (*top, *duplicate)}
    for low, high in _batches(offsets):
        words = codes[offsets[low] : offsets[high]]
        if not len(words):
            continue
        bounds = offsets[low : high + 1] - offsets[low]
        document = np.repeat(np.arange(high - low, dtype=np.int32), np.diff(bounds))
        chars = np.zeros(len(words) + 1, np.int64)
        np.cumsum(table.chars[words], out=chars[1:])
        key, scale = table.key[words], table.scale[words]
        spaced = (key * np.uint64(BASE) + np.uint64(SPACE_KEY), scale * np.uint64(BASE))
        for n, at, first in _grams(*spaced, document, top):
            result[n][low:high] = _top(first, at, document, chars, n, high - low)
        for n, at, first in _grams(key, scale, document, duplicate):
            result[n][low:high] = _duplicate(first, at, document, chars, n, high - low)
    return result


def _batches(offsets: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of documents of about `_BATCH_WORDS` words."""
    import numpy as np

    documents = len(offsets) - 1
    low = 0
    while low < documents:
        high = int(np.searchsorted(offsets, offsets[low] + _BATCH_WORDS, side="right")) - 1
        high = min(max(high, low + 1), documents)
        yield low, high
        low = high


def _grams(
    key: npt.NDArray[np.uint64],
    scale: npt.NDArray[np.uint64],
    document: npt.NDArray[np.int32],
    wanted: tuple[int, ...],
) -> Iterator[tuple[int, npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """For each wanted n: n, the words at which an n-gram begins, and for each the first n-gram equal to it.

    The third is an index into the second. N-grams do not cross documents, and equal ones in two documents differ.
    """
    import numpy as np

    gram = key
    salt = (document.astype(np.uint64) + np.uint64(1)) * np.uint64(0xA0761D6478BD642F)
    salt ^= salt >> np.uint64(32)
    for n in range(2, max(wanted, default=0) + 1):
        if len(key) < n:
            return
        gram = gram[:-1] * scale[n - 1 :]
        gram += key[n - 1 :]
        if n in wanted:
            inside = document[: len(gram)] == document[n - 1 :]
            at = np.flatnonzero(inside).astype(np.int32)
            yield n, at, first_seen((gram + salt[: len(gram)])[at])


def _top(
    first: npt.NDArray[np.int32],
    at: npt.NDArray[np.int32],
    document: npt.NDArray[np.int32],
    chars: npt.NDArray[np.int64],
    n: int,
    documents: int,
) -> npt.NDArray[np.int64]:
    """Length times count of each document's most frequent n-gram, of several the first."""
    import numpy as np

    result = np.zeros(documents, np.int64)
    if not len(at):
        return result
    counts = np.bincount(first, minlength=len(first))
    owner = document[at]
    starts = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))
    highest = np.maximum.reduceat(counts, starts)
    best = np.flatnonzero(counts == np.repeat(highest, np.diff(np.append(starts, len(at)))))
    first_best = best[np.searchsorted(best, starts)]
    begin = at[first_best]
    result[owner[starts]] = (chars[begin + n] - chars[begin] + n - 1) * highest
    return result


def _duplicate(
    first: npt.NDArray[np.int32],
    at: npt.NDArray[np.int32],
    document: npt.NDArray[np.int32],
    chars: npt.NDArray[np.int64],
    n: int,
    documents: int,
) -> npt.NDArray[np.int64]:
    """Characters of the n-grams that were there before, each found duplicate skipping its words."""
    import numpy as np

    hits = _scan(first, at, n)
    if not len(hits):
        return np.zeros(documents, np.int64)
    begin = at[hits]
    lengths = chars[begin + n] - chars[begin]
    return np.bincount(document[begin], weights=lengths, minlength=documents).astype(np.int64)


def _scan(first: npt.NDArray[np.int32], at: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int64]:
    """The n-grams that the scan finds to be there before, in order.

    Only where an equal n-gram comes before can the scan find one, so it goes from one such place to the next. It has
    not seen the n-grams that begin within a duplicate it skipped: where an n-gram's first place was skipped, its first
    place that was not counts.
    """
    import numpy as np

    candidates = np.flatnonzero(first != np.arange(len(first), dtype=np.int32))
    if not len(candidates):
        return candidates
    # By word, not by n-gram: the last n - 1 words of a document begin no n-gram.
    stops = np.searchsorted(at, at[candidates] + n)
    onward = np.searchsorted(candidates, stops).tolist()
    behind = stops.tolist()
    firsts = first[candidates].tolist()
    places = candidates.tolist()
    skipped = bytearray(len(first))
    cover = b"\1" * (n - 1)
    seen: set[int] = set()
    hits: list[int] = []
    i, end = 0, len(places)
    while i < end:
        head = firsts[i]
        if skipped[head] and head not in seen:
            seen.add(head)
            i += 1
            continue
        place, stop = places[i], behind[i]
        hits.append(place)
        skipped[place + 1 : stop] = cover[: stop - place - 1]
        i = onward[i]
    return np.array(hits, np.int64)
