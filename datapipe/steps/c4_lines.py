"""Line-level cleaning of C4, as datatrove 0.10 has it: which lines stay, how they read, and what they say of documents.

What enters: the words of a text column and the options. What leaves: `CleanLines`: the lines that stay, citations taken
out; for each document the first line with "lorem ipsum" and the first with a curly bracket; counts of the lines removed
by reason. Invariant: the lines are those that datatrove's `C4QualityFilter` keeps with `filter_lorem_ipsum` and
`filter_curly_bracket` off, which take documents, not lines; so the document's rules can be judged afterwards.

Source: Raffel et al. 2020, arXiv:1910.10683, section 2.2; `c4_filters.py` in datatrove, after
tensorflow_datasets' `c4_utils.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.steps.columns import to_arrow
from datapipe.steps.text_pieces import Pieces, split_lines

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.c4 import C4Options
    from datapipe.steps.segmentation import Segmentation

CITATION: Final = r"\[\d*\]|\[edit\]|\[citation needed\]"
END_PUNCTUATION: Final = (".", "?", "!", '"', "'")
POLICY: Final = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
REMOVED: Final = ("too_long_word", "no_terminal_punct", "too_few_words", "javascript", "policy")


@final
@dataclass(frozen=True, eq=False)
class CleanLines:
    """The lines of n documents that stay.

    Attributes:
        texts: large_string[k].
        first, behind: the chunks of the segmentation that each line is made of, int64[k].
        changed: lines that read otherwise than there, bool[k].
        offsets: int64[n + 1]; document i has the lines offsets[i] … offsets[i + 1].
        lorem, curly: number (from 1) of the first line of each document that has "lorem ipsum", or "{"; 0: none;
            int64[n].
        removed: for each of `REMOVED`, how many lines of each document went, int64[n].
        lines: lines of each document, int64[n].
    """

    texts: pa.Array
    first: npt.NDArray[np.int64]
    behind: npt.NDArray[np.int64]
    changed: npt.NDArray[np.bool_]
    offsets: npt.NDArray[np.int64]
    lorem: npt.NDArray[np.int64]
    curly: npt.NDArray[np.int64]
    removed: dict[str, npt.NDArray[np.int64]]
    lines: npt.NDArray[np.int64]


def clean_lines(words: Segmentation, options: C4Options) -> CleanLines:
    """Go through the lines of every document as datatrove does, all of them at once.

    Args:
        words: of the documents, or, with `split_paragraph` off, of their sentences.
        options: which rules hold.
    """
    import numpy as np

    pieces = split_lines(words.chunks)
    first = np.searchsorted(words.chunks.starts, pieces.starts)
    behind = np.searchsorted(words.chunks.starts, pieces.ends)
    return _clean(words, pieces, first, behind, options)


def clean_sentences(words: Segmentation, documents: Pieces, options: C4Options) -> CleanLines:
    """The same with sentences for lines: `words` are those of the sentences, one row each, `documents` owns them."""
    chunks = words.chunks
    pieces = Pieces(chunks.data, chunks.documents[:-1], chunks.documents[1:], documents.offsets)
    return _clean(words, pieces, chunks.offsets[:-1], chunks.offsets[1:], options)


def _clean(
    words: Segmentation,
    pieces: Pieces,
    first: npt.NDArray[np.int64],
    behind: npt.NDArray[np.int64],
    options: C4Options,
) -> CleanLines:
    import numpy as np
    import polars as pl

    chunks = words.chunks
    n_words = behind - first
    filled = n_words > 0
    starts, ends = pieces.starts.copy(), pieces.starts.copy()
    starts[filled] = chunks.starts[first[filled]]
    ends[filled] = chunks.ends[behind[filled] - 1]
    stripped = Pieces(pieces.data, starts, ends, pieces.offsets)
    gone = np.zeros(len(starts), np.int8)  # 1 + index into REMOVED

    def remove(where: npt.NDArray[np.bool_], reason: str) -> None:
        gone[where & (gone == 0)] = 1 + REMOVED.index(reason)

    if options.max_word_length != -1:
        remove(_long_words(words, first, behind, options.max_word_length), "too_long_word")
    short = n_words < options.min_words_per_line
    if not options.filter_no_terminal_punct:
        remove(short, "too_few_words")
    kept = stripped.where(gone == 0)
    at = np.flatnonzero(gone == 0)
    line = pl.col("line")
    frame = pl.DataFrame({"line": pl.from_arrow(kept.texts)}, schema={"line": pl.String})
    frame = frame.with_columns((line.str.contains(CITATION) & options.remove_citations).alias("changed"))
    if options.remove_citations:
        cited = pl.when("changed").then(line.str.replace_all(CITATION, "")).otherwise(line)
        frame = frame.with_columns(cited.alias("line"))
    if options.filter_no_terminal_punct:
        stops = pl.any_horizontal([line.str.ends_with(mark) for mark in END_PUNCTUATION])
        stays = frame.select(stops & ~line.str.ends_with("...")).to_series().to_numpy()
        here = np.zeros(len(gone), bool)
        here[at] = ~stays
        remove(here, "no_terminal_punct")
        remove(short, "too_few_words")
        frame = frame.filter(pl.Series(gone[at] == 0))
        at = at[gone[at] == 0]
    low = pl.col("low")
    told = frame.lazy().with_columns(line.str.to_lowercase().alias("low")).select(
        low.str.contains("lorem ipsum", literal=True).alias("lorem"),
        low.str.contains("javascript", literal=True).alias("javascript"),
        line.str.contains("{", literal=True).alias("curly"),
        low.str.contains_any(list(POLICY)).alias("policy"),
    ).collect()  # fmt: skip
    lorem = _first_line(at[told["lorem"].to_numpy()], pieces)
    left = np.ones(len(at), bool)
    here = np.zeros(len(gone), bool)
    if options.filter_javascript:
        here[at] = told["javascript"].to_numpy()
        remove(here, "javascript")
        left = gone[at] == 0
    curly = _first_line(at[left & told["curly"].to_numpy()], pieces)
    if options.filter_policy:
        here[:] = False
        here[at] = told["policy"].to_numpy()
        remove(here, "policy")
    stays = gone == 0
    frame = frame.filter(pl.Series(stays[at]))
    return CleanLines(
        texts=to_arrow(frame["line"]),
        first=first[stays],
        behind=behind[stays],
        changed=frame["changed"].to_numpy(),
        offsets=np.concatenate(([0], np.cumsum(stays)))[pieces.offsets],
        lorem=lorem,
        curly=curly,
        removed={reason: pieces.sums(gone == k) for k, reason in enumerate(REMOVED, 1)},
        lines=pieces.counts,
    )


def _long_words(
    words: Segmentation, first: npt.NDArray[np.int64], behind: npt.NDArray[np.int64], longest: int
) -> npt.NDArray[np.bool_]:
    """The lines that have a run of more than `longest` characters without white space."""
    import numpy as np

    chunks = words.chunks
    at = np.flatnonzero(chunks.ends - chunks.starts > longest)  # bytes: characters are not more
    long = [k for k in at.tolist() if len(chunks.data[chunks.starts[k] : chunks.ends[k]].tobytes().decode()) > longest]
    found: npt.NDArray[np.bool_] = np.searchsorted(long, behind) > np.searchsorted(long, first)
    return found


def _first_line(at: npt.NDArray[np.int64], pieces: Pieces) -> npt.NDArray[np.int64]:
    """The number, from 1, of the first of the lines `at` in each document; 0 for none."""
    import numpy as np

    number = np.zeros(len(pieces.offsets) - 1, np.int64)
    owner = pieces.owners[at]
    number[owner[::-1]] = (at - pieces.offsets[owner] + 1)[::-1]
    return number
