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
    import polars as pl
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

    n_words = behind - first
    stripped = _stripped(words, pieces, first, behind)
    gone = np.zeros(len(n_words), np.int8)  # 1 + index into REMOVED

    def remove(where: npt.NDArray[np.bool_], reason: str) -> None:
        gone[where & (gone == 0)] = 1 + REMOVED.index(reason)

    if options.max_word_length != -1:
        remove(_long_words(words, first, behind, options.max_word_length), "too_long_word")
    short = n_words < options.min_words_per_line
    if not options.filter_no_terminal_punct:
        remove(short, "too_few_words")
    at = np.flatnonzero(gone == 0)
    frame = _without_citations(stripped.where(gone == 0), remove=options.remove_citations)
    if options.filter_no_terminal_punct:
        remove(_spread(~_ends_as_a_sentence(frame), at, len(gone)), "no_terminal_punct")
        remove(short, "too_few_words")
        frame = frame.filter(pl.Series(gone[at] == 0))
        at = at[gone[at] == 0]
    told = _what_they_say(frame)
    lorem = _first_line(at[told["lorem"]], pieces)
    if options.filter_javascript:
        remove(_spread(told["javascript"], at, len(gone)), "javascript")
    # A bracket tells of a document only where its line has stayed up to here: datatrove looks for policies after it.
    curly = _first_line(at[(gone[at] == 0) & told["curly"]], pieces)
    if options.filter_policy:
        remove(_spread(told["policy"], at, len(gone)), "policy")
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


def _stripped(
    words: Segmentation, pieces: Pieces, first: npt.NDArray[np.int64], behind: npt.NDArray[np.int64]
) -> Pieces:
    """The lines from their first word to their last."""
    chunks = words.chunks
    filled = behind > first
    starts, ends = pieces.starts.copy(), pieces.starts.copy()
    starts[filled] = chunks.starts[first[filled]]
    ends[filled] = chunks.ends[behind[filled] - 1]
    return Pieces(pieces.data, starts, ends, pieces.offsets)


def _without_citations(lines: Pieces, *, remove: bool) -> pl.DataFrame:
    """The lines, and whether a citation was taken out of each (of none, unless they are to be removed)."""
    import polars as pl

    line = pl.col("line")
    frame = pl.DataFrame({"line": pl.from_arrow(lines.texts)}, schema={"line": pl.String})
    frame = frame.with_columns((line.str.contains(CITATION) & remove).alias("changed"))
    if not remove:
        return frame
    cited = pl.when("changed").then(line.str.replace_all(CITATION, "")).otherwise(line)
    return frame.with_columns(cited.alias("line"))


def _ends_as_a_sentence(frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether each line ends with a mark of `END_PUNCTUATION` that is no ellipsis."""
    import polars as pl

    line = pl.col("line")
    stops = pl.any_horizontal([line.str.ends_with(mark) for mark in END_PUNCTUATION])
    return frame.select(stops & ~line.str.ends_with("...")).to_series().to_numpy()


def _what_they_say(frame: pl.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether each line has "lorem ipsum", "javascript", "{", a phrase of `POLICY`."""
    import polars as pl

    line, low = pl.col("line"), pl.col("low")
    told = frame.lazy().with_columns(line.str.to_lowercase().alias("low")).select(
        low.str.contains("lorem ipsum", literal=True).alias("lorem"),
        low.str.contains("javascript", literal=True).alias("javascript"),
        line.str.contains("{", literal=True).alias("curly"),
        low.str.contains_any(list(POLICY)).alias("policy"),
    ).collect()  # fmt: skip
    return {name: told[name].to_numpy() for name in told.columns}


def _spread(values: npt.NDArray[np.bool_], at: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.bool_]:
    """The values of the lines `at` among all n; False for the others."""
    import numpy as np

    found = np.zeros(n, bool)
    found[at] = values
    return found


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
