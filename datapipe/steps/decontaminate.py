"""decontaminate: rows that hold runs of words of an evaluation set are dropped, or the runs are cut out.

What enters: `text`, and evaluation sets as files. What leaves: the rows without overlap, unchanged; of the others,
nothing (mode "drop") or what is left of them (mode "cut"). Invariant: what leaves, looked at again, is left as it is.

The overlap is that of Brown et al. 2020, arXiv:2005.14165, appendix C: runs of 13 words, lower-cased, punctuation
aside; items shorter than that count whole if they have 8 words (its least n). Words are `word_hashes.RULE`; of a
document, its first 32 MiB are looked at. How surely a hit is one: `decontaminate_index`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError
from datapipe.steps.columns import TEXT, mark, set_column, text_of
from datapipe.steps.decontaminate_cut import cut, quoted
from datapipe.steps.decontaminate_index import EvalIndex, Hits, covered_words, index_of, words_of
from datapipe.steps.options import in_range
from datapipe.steps.step import DETAIL, StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

CONTAMINATED: Final = "contaminated"
HITS: Final = "decontaminate.hits"
COVERED: Final = "decontaminate.covered_words"
WORDS: Final = "decontaminate.words"
SIGNALS: Final = (HITS, COVERED, WORDS)
_ROUNDS: Final = 16
"""Cuts after which a row in which ever new runs come to stand together is dropped: only one made to do so has them."""


@dataclass(frozen=True, kw_only=True)
class DecontaminateOptions:
    """Options of decontaminate.

    Attributes:
        files: evaluation sets: JSON lines, CSV, TSV, Parquet or text (one item a line), gzipped or not.
        names: what reports call the files, and what says their format; by default the files' own names.
        columns: columns that hold the items; none: every column of text.
        n: words of a run. In scripts without spaces each character is a word, and 13 of them are a common phrase:
            for Chinese, Japanese or Thai take 30 or more, or a min_ratio.
        min_words: items of fewer than n words are looked for whole if they have this many; else they are left out.
        min_hits: runs from which a row is contaminated.
        min_ratio: share of the row's words that lie in such runs from which it is, if it has min_hits as well.
        mode: drop the contaminated rows, or cut the runs out of them (a row that has no word left is dropped).
    """

    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    n: int = 13
    min_words: int = 8
    min_hits: int = 1
    min_ratio: float = 0.0
    mode: Literal["drop", "cut"] = "drop"

    def __post_init__(self) -> None:
        in_range("decontaminate.n", self.n, 2, 1000)
        in_range("decontaminate.min_words", self.min_words, 1)
        in_range("decontaminate.min_hits", self.min_hits, 1)
        in_range("decontaminate.min_ratio", self.min_ratio, 0, 1)
        if not self.names:
            # A worker is given copies that are named after their checksums.
            object.__setattr__(self, "names", tuple(PurePath(path).name for path in self.files))
        if len(self.names) != len(self.files):
            raise ConfigError(
                f"decontaminate.names has {len(self.names)} names for {len(self.files)} files",
                expected="one for each, in their order, or none",
            )


def judge(signals: pa.Table, options: DecontaminateOptions) -> pa.Array:
    """CONTAMINATED where a row has hits enough and they cover enough of it: string[n]."""
    import numpy as np
    import pyarrow as pa

    hits, covered, words = (signals.column(name).to_numpy() for name in SIGNALS)
    ratio = covered / np.maximum(words, 1)
    found = (hits >= options.min_hits) & (ratio >= options.min_ratio)
    return pa.array([None, CONTAMINATED], pa.string()).take(pa.array(found.astype(np.int8)))


@final
class Decontaminate:
    """The step: it finds its index at the first table; a pickle of it holds the options."""

    def __init__(self, options: DecontaminateOptions) -> None:
        self.options = options
        self._index: EvalIndex | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (Decontaminate, (self.options,))

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """Measure, and mark or cut.

        Args:
            table: `text: string`.
            keys: not used.

        Returns:
            The table with SIGNALS, int64 each: runs found, words they cover, words. Contaminated rows are marked
            "contaminated" (mode "drop") or cut; those that are marked have as detail the item with the most runs in
            them, and the words of the first.

        Raises:
            ConfigError: a file cannot be read, or holds no item of enough words.
        """
        del keys
        import numpy as np
        import pyarrow as pa

        options = self.options
        text = text_of(table)
        counts = np.zeros((3, table.num_rows), np.int64)
        firsts: dict[int, Hits] = {}
        index = self.index()
        row = 0
        for group, lengths, hits in _measured(text, index):
            ends = np.cumsum(lengths)
            counts[2, row : row + len(group)] = lengths
            if len(hits.starts):
                owners = np.searchsorted(ends, hits.starts, side="right")
                counts[0, row : row + len(group)] = np.bincount(owners, minlength=len(group))
                covered = np.concatenate(([0], np.cumsum(covered_words(hits, int(ends[-1])))))
                counts[1, row : row + len(group)] = covered[ends] - covered[ends - lengths]
                for owner in np.unique(owners).tolist():
                    of = slice(*np.searchsorted(owners, (owner, owner + 1)).tolist())
                    begin = ends[owner] - lengths[owner]
                    firsts[row + owner] = Hits(hits.starts[of] - begin, hits.lengths[of], hits.items[of])
            row += len(group)
        signals = pa.table({name: pa.array(each) for name, each in zip(SIGNALS, counts, strict=True)})
        reasons = judge(signals, options)
        for name in SIGNALS:
            table = set_column(table, name, signals.column(name))
        rows = np.flatnonzero(reasons.is_valid().to_numpy(zero_copy_only=False)).tolist()
        if options.mode == "cut" and rows:
            rows, text = self._cut(text, rows, firsts)
            table = set_column(table, TEXT, text)
            kept = np.zeros(table.num_rows, np.int8)
            kept[rows] = 1
            reasons = pa.array([None, CONTAMINATED], pa.string()).take(pa.array(kept))
        elif options.mode == "cut":
            table = set_column(table, TEXT, text)
        if rows:
            details: list[str | None] = [None] * table.num_rows
            for row in rows:
                details[row] = _detail(text[row].as_py(), firsts[row], index)
            table = set_column(table, DETAIL, pa.array(details, pa.string()))
        return mark(table, reasons)

    def _cut(self, text: pa.ChunkedArray, rows: list[int], firsts: dict[int, Hits]) -> tuple[list[int], Any]:
        """The texts with the runs cut out of some rows, and the rows of which nothing is left (uncut)."""
        import numpy as np
        import pyarrow as pa

        values = text.to_pylist()
        gone = []
        for row in rows:
            left, hits = values[row], firsts[row]
            words = words_of(left.encode("utf-8", "replace"))
            for _ in range(_ROUNDS):
                left = cut(left, covered_words(hits, len(words)))
                words = words_of(left.encode("utf-8", "replace"))
                if not len(words):
                    gone.append(row)
                    break
                # What stood apart stands side by side now, and may be a run.
                hits = self.index().hits(words, np.array([len(words)]))
                covered = int(covered_words(hits, len(words)).sum())
                one = pa.table({HITS: [len(hits.starts)], COVERED: [covered], WORDS: [len(words)]})
                if not judge(one, self.options)[0].is_valid:
                    values[row] = left
                    break
            else:
                gone.append(row)
        return gone, pa.chunked_array([pa.array(values, pa.large_string())])

    def index(self) -> EvalIndex:
        """The index of the files: read and made at the first call, once in a process."""
        if self._index is None:
            options = self.options
            self._index = index_of(options.files, options.names, options.columns, options.n, options.min_words)
        return self._index


def _measured(text: pa.ChunkedArray, index: EvalIndex) -> Any:
    """(documents, int64 words of each, hits) of groups of documents, in order."""
    import numpy as np

    from datapipe.steps.shingles import groups
    from datapipe.steps.word_hashes import PIECE, word_hashes

    for group in groups(text):
        if len(group) == 1 and len(group[0]) > PIECE:
            words = words_of(group[0])
            counts = np.array([len(words)])
        else:
            words, counts = word_hashes(group)
        yield group, counts, index.hits(words, counts)


def _detail(text: str, hits: Hits, index: EvalIndex) -> str:
    """The item with the most runs in a text (of several the first in it), how many, and the words of its first."""
    import numpy as np

    items, places, counts = np.unique(hits.items, return_index=True, return_counts=True)
    best = np.lexsort((places, -counts))[0]
    label = index.labels[int(items[best])]
    others = f", {len(items) - 1} more items" if len(items) > 1 else ""
    first = int(places[best])
    words = quoted(text, int(hits.starts[first]), int(hits.lengths[first]))
    return f"{label}: {int(counts[best])} of {len(hits.starts)} runs{others}: {words}"


def resolve(spec: StepSpec, options: DecontaminateOptions) -> StepSpec:
    """In mode "cut" the text is rewritten, and stored signals do not say what is dropped."""
    return spec if options.mode == "drop" else replace(spec, gives=(TEXT,), judge=None, measured_by=())


def build(options: DecontaminateOptions) -> Step:
    """The step with its options bound."""
    return Decontaminate(options)


SPEC: Final = StepSpec(
    name="decontaminate",
    version=1,
    kind="map",
    options=DecontaminateOptions,
    build=build,
    summary="rows that share runs of 13 words with your evaluation sets: dropped, or the runs cut out",
    reasons=(CONTAMINATED,),
    needs=("text",),
    signals=SIGNALS,
    counters=(HITS,),
    judge=judge,
    measured_by=("files", "names", "columns", "n", "min_words", "mode"),
    resources=("files",),
    resolve=resolve,
)
