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
from datapipe.steps.word_table import BASE, SPACE_KEY, character_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.word_table import WordTable

_SALT: Final = 0xA0761D6478BD642F
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
        chars = np.zeros(len(words) + 1, np.int64)
        np.cumsum(table.chars[words], out=chars[1:])
        key, scale = table.key[words], table.scale[words]
        spaced = (key * np.uint64(BASE) + np.uint64(SPACE_KEY), scale * np.uint64(BASE))
        for n, first in _grams(*spaced, bounds, top):
            result[n][low:high] = _top(first, bounds, chars, n)
        for n, first in _grams(key, scale, bounds, duplicate):
            result[n][low:high] = _duplicate(first, bounds, chars, n)
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
    bounds: npt.NDArray[np.int64],
    wanted: tuple[int, ...],
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """For each wanted n: n, and for each word the first at which an equal n-gram begins (itself where there is none).

    N-grams do not cross documents, and equal ones in two documents differ: each document's keys begin with a number of
    its own, and so does each word at which no n-gram begins any more.
    """
    import numpy as np

    salt: npt.NDArray[np.uint64] = (np.arange(len(bounds) - 1, dtype=np.uint64) + np.uint64(1)) * np.uint64(_SALT)
    gram = key + np.repeat(salt, np.diff(bounds)) * scale
    for n in range(2, max(wanted, default=0) + 1):
        too_late = bounds[1:] - n + 1
        too_late = too_late[too_late >= bounds[:-1]]
        # For the recurrence all words keep their place; the last n - 1 of the batch have no n-gram.
        count = max(len(gram) - n + 1, 0)
        gram[:count] *= scale[n - 1 :]
        gram[:count] += key[n - 1 :]
        gram[too_late] = character_keys(too_late.astype(np.uint64) + np.uint64(1 << 32))
        if n in wanted:
            yield n, first_seen(gram)


def _top(
    first: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], chars: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.int64]:
    """Length times count of each document's most frequent n-gram, of several the first."""
    import numpy as np

    result = np.zeros(len(bounds) - 1, np.int64)
    owners = np.flatnonzero(np.diff(bounds) >= n)
    if not len(owners):
        return result
    counts = np.bincount(first, minlength=len(first))
    # Words at which no n-gram begins count 1, as any n-gram does at least, and come after all of them; so do documents
    # without n-grams, which are counted with the one before.
    starts = bounds[owners]
    highest = np.maximum.reduceat(counts, starts)
    sizes = np.diff(np.append(starts, len(counts)))
    best = np.flatnonzero(counts[starts[0] :] == np.repeat(highest, sizes)) + starts[0]
    begin = best[np.searchsorted(best, starts)]
    result[owners] = (chars[begin + n] - chars[begin] + n - 1) * highest
    return result


def _duplicate(
    first: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], chars: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.int64]:
    """Characters of the n-grams that were there before, each found duplicate skipping its words."""
    import numpy as np

    hits = _scan(first, n)
    length = np.zeros(len(hits) + 1, np.int64)
    np.cumsum(chars[hits + n] - chars[hits], out=length[1:])
    before = length[np.searchsorted(hits, bounds)]
    return before[1:] - before[:-1]


def _scan(first: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """The words at which the scan finds an n-gram that was there before, in order.

    Only where an equal n-gram comes before can the scan find one, so it goes from one such place to the next. It has
    not seen the n-grams that begin within a duplicate it skipped: where an n-gram's first place was skipped, its first
    place that was not counts.
    """
    import numpy as np

    candidates = np.flatnonzero(first != np.arange(len(first)))
    places = candidates.tolist()
    firsts = first[candidates].tolist()
    onward = np.searchsorted(candidates, candidates + n).tolist()
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
        place = places[i]
        hits.append(place)
        skipped[place + 1 : place + n] = cover
        i = onward[i]
    return np.array(hits, np.int64)
