"""c4@datatrove: C4's cleaning of lines and its rules on documents, as datatrove 0.10 has them.

`text` enters; it leaves with the lines that stay, joined by newlines, and the rows that break a rule marked. Invariant:
given the same sentences, the mark and the text are datatrove's (`c4_filters.py`, `C4QualityFilter`, and
`C4ParagraphFilter` before it where `min_paragraphs` is set). Marks are a function of the signals and the document's
options alone; the text is not changed by these, so a step after this one measures the same text under any of them.

Source: Raffel et al. 2020, arXiv:1910.10683, section 2.2; Xue et al. 2021, arXiv:2010.11934 (mC4), section 3.1, for
paragraphs. datatrove's own words: FineWeb runs this with `filter_no_terminal_punct` off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.steps.c4_lines import REMOVED
from datapipe.steps.columns import mark, set_column, set_columns
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.c4_lines import CleanLines
    from datapipe.steps.segmentation import Segmentation
    from datapipe.steps.step import Keys, Step

REASONS: Final = ("c4_too_few_paragraphs", "lorem_ipsum", "curly_bracket", "too_few_sentences")
"""datatrove's names (the first is its "< 3 paragraphs")."""
SIGNALS: Final = (
    "c4.long_paragraphs",
    "c4.lorem_line",
    "c4.curly_line",
    "c4.sentences",
    "c4.lines",
    *(f"c4.removed_{reason}" for reason in REMOVED),
)


@dataclass(frozen=True, kw_only=True)
class C4Options:
    """datatrove's options, by its names.

    Attributes:
        split_paragraph: the rules on lines look at lines; off, at sentences, which are then joined by spaces.
        remove_citations: take "[1]", "[]", "[edit]" and "[citation needed]" out of lines.
        filter_no_terminal_punct: remove lines that do not end in one of . ? ! " ' or that end in "...".
        min_num_sentences: documents of fewer sentences go; -1 switches the rule off.
        min_words_per_line: lines of fewer words go (words between white space); -1 switches the rule off.
        max_word_length: lines with a longer word go, in characters; -1 switches the rule off.
        filter_lorem_ipsum: documents with "lorem ipsum" in a line that comes so far go.
        filter_javascript: lines with "javascript" go.
        filter_curly_bracket: documents with "{" in a line that comes so far go.
        filter_policy: lines that speak of terms of use, privacy or cookies go.
        min_paragraphs: documents with fewer long lines go (mC4: 3); 0 switches the rule off.
        min_paragraph_length: characters that make a line of the text as it comes in a long one (mC4: 200).
    """

    split_paragraph: bool = True
    remove_citations: bool = True
    filter_no_terminal_punct: bool = True
    min_num_sentences: int = 5
    min_words_per_line: int = 3
    max_word_length: int = 1000
    filter_lorem_ipsum: bool = True
    filter_javascript: bool = True
    filter_curly_bracket: bool = True
    filter_policy: bool = True
    min_paragraphs: int = 0
    min_paragraph_length: int = 200

    def __post_init__(self) -> None:
        for name in ("min_num_sentences", "min_words_per_line", "max_word_length"):
            in_range(f"c4.{name}", getattr(self, name), -1)
        for name in ("min_paragraphs", "min_paragraph_length"):
            in_range(f"c4.{name}", getattr(self, name), 0)
        if self.max_word_length == 0:
            raise ConfigError("c4.max_word_length = 0", expected="at least 1, or -1", fix="-1 switches the rule off")


def c4_clean(
    words: Segmentation,
    options: C4Options,
    count: Callable[[pa.Array], npt.NDArray[np.int64]] | None = None,
) -> tuple[pa.Array, pa.Table, Segmentation | None]:
    """Clean the lines of every document, and measure what the document's rules look at.

    Args:
        words: the documents' segmentation.
        options: rules on lines.
        count: large_string[k] → sentences of each of these lines, int64[k]; by default the native ones.

    Returns:
        The cleaned texts, large_string[n]; `SIGNALS`, int64[n] each: lines of at least `min_paragraph_length`
        characters, the number of the first line with "lorem ipsum" and with "{" (from 1; 0: none), sentences in the
        lines that stay, lines, and lines removed by reason; and the words of the cleaned texts where they are known.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.steps.c4_lines import clean_lines, clean_sentences
    from datapipe.steps.segmentation import segment
    from datapipe.steps.segmentation_parts import segment_lines
    from datapipe.steps.sentences import sentences
    from datapipe.steps.text_pieces import lines

    if options.split_paragraph:
        clean = clean_lines(words, options)
    else:
        parts = sentences(words)
        clean = clean_sentences(segment(pa.chunked_array([parts.texts])), parts, options)
    kept = None
    if options.split_paragraph:
        kept = segment_lines(words, clean.texts, clean.first, clean.behind, clean.changed)
    sums = np.concatenate(([0], np.cumsum(_sentences_per_line(clean, kept, count))))
    raw = pa.LargeListArray.from_arrays(pa.array(clean.offsets, pa.int64()), clean.texts)
    joined = pc.binary_join(raw, pa.scalar("\n" if options.split_paragraph else " ", pa.large_string()))
    text = pc.utf8_trim(joined, characters=_white_space())
    paragraphs = lines(words.chunks)
    values = (
        paragraphs.sums(paragraphs.chars >= options.min_paragraph_length),
        clean.lorem,
        clean.curly,
        sums[clean.offsets[1:]] - sums[clean.offsets[:-1]],
        clean.lines,
        *(clean.removed[reason] for reason in REMOVED),
    )
    signals = pa.table({name: pa.array(each, pa.int64()) for name, each in zip(SIGNALS, values, strict=True)})
    return text, signals, kept.grouped(text, clean.offsets) if kept is not None else None


def _sentences_per_line(
    clean: CleanLines, kept: Segmentation | None, count: Callable[[pa.Array], npt.NDArray[np.int64]] | None
) -> npt.NDArray[np.int64]:
    import numpy as np

    from datapipe.steps.sentences import count_sentences

    if count is not None:
        return count(clean.texts)
    return np.ones(len(clean.texts), np.int64) if kept is None else count_sentences(kept)


def _white_space() -> str:
    from datapipe.steps.characters import WHITE_SPACE

    return "".join(sorted(WHITE_SPACE))


def c4_reasons(signals: pa.Table, options: C4Options) -> pa.Array:
    """The rule that takes each row: string[n], null where none does; from stored signals.

    Of the options, `min_num_sentences`, `min_paragraphs`, `filter_lorem_ipsum` and `filter_curly_bracket` are judged.
    """
    import numpy as np
    import pyarrow as pa

    def numbers(name: str) -> npt.NDArray[np.int64]:
        values: npt.NDArray[np.int64] = signals.column(f"c4.{name}").to_numpy()
        return values

    lorem, curly = numbers("lorem_line"), numbers("curly_line")
    has_lorem = (lorem > 0) & options.filter_lorem_ipsum
    has_curly = (curly > 0) & options.filter_curly_bracket
    found = np.zeros(signals.num_rows, np.int32)
    # A line is looked at for "lorem ipsum" first, and datatrove stops at the first line that has either.
    found[(options.min_num_sentences != -1) & (numbers("sentences") < options.min_num_sentences)] = 4
    found[has_curly] = 3
    found[has_lorem & ~(has_curly & (curly < lorem))] = 2
    found[numbers("long_paragraphs") < options.min_paragraphs] = 1
    return pa.array([None, *REASONS], pa.string()).take(pa.array(found))


def c4(table: pa.Table, keys: Keys, *, options: C4Options) -> pa.Table:
    """Rewrite `text` with the lines that stay, and mark the rows that break a document's rule.

    Args:
        table: `text: string`.
        keys: not used.
        options: rules.

    Returns:
        The table with `text` cleaned (of marked rows too) and `SIGNALS` (int64), broken rows marked drop with one of
        `REASONS`.
    """
    import pyarrow as pa

    from datapipe.steps.segmentation import remember, segmented

    del keys
    text, signals, words = c4_clean(segmented(table), options)
    column = pa.chunked_array([text])
    table = set_column(table, "text", column)
    if words is not None:
        remember(column, words)
    return mark(set_columns(table, signals), c4_reasons(signals, options))


def build(options: C4Options) -> Step:
    """The step with its options bound."""
    return partial(c4, options=options)


SPEC: Final = StepSpec(
    name="c4@datatrove",
    version=1,
    kind="map",
    options=C4Options,
    build=build,
    summary="C4's line cleaning and document rules as datatrove has them",
    reasons=REASONS,
    needs=("text",),
    gives=("text",),
    signals=SIGNALS,
    judge=c4_reasons,
    measured_by=(
        "split_paragraph",
        "remove_citations",
        "filter_no_terminal_punct",
        "min_words_per_line",
        "max_word_length",
        "filter_javascript",
        "filter_policy",
        "min_paragraph_length",
    ),
)
