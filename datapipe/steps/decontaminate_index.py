"""Evaluation items → an index of their runs of n words; documents → the places where they hold one.

What enters: items, then UTF-8 documents. What leaves: every run of n words that a document shares with an item, by
place. Invariant: what is found is a function of the words (`word_hashes.RULE`) of document and items alone; a run that
is shared is always found.

An item of fewer than n words is looked for whole, if it has `min_words` at least; else it is left out and counted.

A run is found by a hash of 64 bits, so one that is shared by no item is found with probability M / 2^64 where the index
holds M runs: over 10^12 words of text against 10^7 runs, half a false hit is to be expected in all.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError
from datapipe.steps.decontaminate_sets import Item, read_content, read_items
from datapipe.steps.word_hashes import pieces, word_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

_BASE: Final = 0x9E3779B97F4A7C55  # odd
_MIX: Final = 0xBF58476D1CE4E5B9
_BLOCK: Final = 1 << 16
"""Words looked up at a time: arrays of 512 KiB."""
_CACHED: Final = 4


@final
@dataclass(frozen=True)
class Hits:
    """Runs that were found: the word each begins at, how many it has, and the item it comes from (int64[m] each)."""

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class _Runs:
    """The distinct runs of one length: hashes ascending, the first item of each, and a filter by their top bits."""

    length: int
    hashes: npt.NDArray[np.uint64]
    items: npt.NDArray[np.int32]
    top: npt.NDArray[np.bool_]
    shift: int


@final
@dataclass(frozen=True)
class EvalIndex:
    """What documents are held against.

    Attributes:
        labels: the items by number, as a report names them.
        indexed, ignored: items whose runs it holds, and items of too few words.
        runs: by length.
    """

    labels: list[str]
    indexed: int
    ignored: int
    runs: tuple[_Runs, ...]

    def hits(self, words: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]) -> Hits:
        """The runs that documents share with the items.

        Args:
            words: uint64[w], the hashes of the words of all documents (`word_hashes`).
            counts: int64[n], how many each document has.

        Returns:
            Hits in the order of their first word, within a document each; `starts` counts over all documents.
        """
        import numpy as np

        ends = np.cumsum(counts)
        found: list[tuple[Any, Any, Any]] = []
        reach = max((each.length for each in self.runs), default=1) - 1
        for at in range(0, len(words), _BLOCK):
            block = words[at : at + _BLOCK + reach]
            hashed = run_hashes(block, [each.length for each in self.runs])
            for runs in self.runs:
                keys = hashed[runs.length][:_BLOCK]
                maybe = np.flatnonzero(runs.top[keys >> np.uint64(runs.shift)])
                if not len(maybe):
                    continue
                places = np.searchsorted(runs.hashes, keys[maybe])
                places[places == len(runs.hashes)] = 0
                same = runs.hashes[places] == keys[maybe]
                starts = maybe[same] + at
                # A run that begins in the last words of a document would reach into the next.
                inside = starts + runs.length <= ends[np.searchsorted(ends, starts, side="right")]
                starts = starts[inside]
                items = runs.items[places[same][inside]].astype(np.int64)
                found.append((starts, np.full(len(starts), runs.length), items))
        if not found:
            none = np.zeros(0, np.int64)
            return Hits(none, none, none)
        starts, lengths, items = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.lexsort((lengths, starts))
        return Hits(starts[order], lengths[order], items[order])


def run_hashes(words: npt.NDArray[np.uint64], lengths: Iterable[int]) -> dict[int, npt.NDArray[np.uint64]]:
    """The hash of every run of so many words, by length: uint64[w - length + 1] each, by its first word.

    The words are the coefficients of a polynomial modulo 2^64, evaluated at an odd base; a run of a + b words is one of
    a and one of b, so that runs of 13 take five multiplications a place, not twelve. Then the bits are mixed.
    """
    import numpy as np

    doubled = {1: words}
    found = {}
    for length in sorted(set(lengths)):
        total, parts = 0, None
        size = 1
        while size <= length:
            if size not in doubled:
                half = doubled[size // 2]
                doubled[size] = _joined(half, size // 2, half, size // 2)
            if length & size:
                parts = doubled[size] if parts is None else _joined(parts, total, doubled[size], size)
                total += size
            size *= 2
        assert parts is not None
        mixed = parts ^ (parts >> np.uint64(31))
        mixed *= np.uint64(_MIX)
        found[length] = mixed
    return found


def _joined(
    left: npt.NDArray[np.uint64], before: int, right: npt.NDArray[np.uint64], after: int
) -> npt.NDArray[np.uint64]:
    """The runs of `before` words followed by those of `after` words."""
    import numpy as np

    n = max(0, len(right) - before)
    joined: npt.NDArray[np.uint64] = left[:n] * np.uint64(pow(_BASE, after, 1 << 64))
    joined += right[before : before + n]
    return joined


def covered_words(hits: Hits, words: int) -> npt.NDArray[np.bool_]:
    """Which of so many words lie in a run: bool[words]."""
    import numpy as np

    change = np.bincount(hits.starts, minlength=words + 1)
    change -= np.bincount(hits.starts + hits.lengths, minlength=words + 1)
    inside: npt.NDArray[np.bool_] = np.cumsum(change)[:words] > 0
    return inside


def words_of(document: bytes) -> npt.NDArray[np.uint64]:
    """The hashes of one document's words, a long one piece by piece: uint64[w]."""
    import numpy as np

    return np.concatenate([word_hashes([piece])[0] for piece in pieces(document)] or [np.zeros(0, np.uint64)])


def build_index(items: Iterable[Item], n: int, min_words: int) -> EvalIndex:
    """The index of some items.

    Args:
        items: in the order in which they have a right to a run that several share.
        n: words of a run.
        min_words: words that an item of fewer than n must have to be looked for whole.
    """
    import numpy as np

    labels: list[str] = []
    ignored = 0
    by_length: dict[int, tuple[list[Any], list[int]]] = {}
    for item in items:
        words = words_of(item.text.encode("utf-8", "replace"))
        if len(words) < min(n, min_words):
            # An empty field or line is no item.
            ignored += len(words) > 0
            continue
        length = min(n, len(words))
        hashes, owners = by_length.setdefault(length, ([], []))
        hashes.append(run_hashes(words, [length])[length])
        owners.append(len(labels))
        labels.append(item.label)
    runs = []
    for length, (hashes, owners) in sorted(by_length.items()):
        counts = [len(each) for each in hashes]
        # The first of equal ones: np.unique keeps the lowest place.
        distinct, places = np.unique(np.concatenate(hashes), return_index=True)
        numbers = np.repeat(np.array(owners, np.int32), counts)[places]
        bits = min(24, max(12, len(distinct).bit_length() + 4))
        top = np.zeros(1 << bits, bool)
        top[distinct >> np.uint64(64 - bits)] = True
        runs.append(_Runs(length, distinct, numbers, top, 64 - bits))
    return EvalIndex(labels, len(labels), ignored, tuple(runs))


_made: dict[tuple[object, ...], EvalIndex] = {}
_making = threading.Lock()


def index_of(
    files: Sequence[str], names: Sequence[str], columns: Sequence[str], n: int, min_words: int
) -> EvalIndex:  # fmt: skip
    """The index of some files, made once in a process for the same content and options.

    Raises:
        ConfigError: a file cannot be read, or no item has words enough.
    """
    from xxhash import xxh3_128_hexdigest

    with _making:
        contents = [read_content(path) for path in files]
        key = (*map(xxh3_128_hexdigest, contents), *names, None, *columns, None, n, min_words)
        if key not in _made:
            items = (
                item
                for content, name in zip(contents, names, strict=True)
                for item in read_items(content, name, columns)
            )
            index = build_index(items, n, min_words)
            if files and not index.indexed:
                raise ConfigError(
                    f"decontaminate.files: none of {index.ignored} items has {min(n, min_words)} words",
                    expected="items of that many words at least, others are not looked for",
                    fix="name the columns that hold the texts, or lower min_words",
                )
            while len(_made) >= _CACHED:
                del _made[next(iter(_made))]
            _made[key] = index
        return _made[key]
