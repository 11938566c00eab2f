"""gopher_quality@datatrove: the quality rules of Gopher as datatrove 0.10 has them.

`text` enters; it leaves unchanged, with the rows that break a rule marked. Invariant: given the same words, the mark
is datatrove's (`gopher_quality_filter.py`), reason and all; marks are a function of the signals and the options alone.

Source: Rae et al. 2021, arXiv:2112.11446, appendix A.1.1, "Quality Filtering"; thresholds and the reading of each rule
after datatrove. Words are those of the shared segmentation: punctuation is a word of its own. Where datatrove divides
by zero (a text without words while `min_doc_words` is off), no rule is broken here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.columns import mark, set_columns
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec
from datapipe.steps.thresholds import Rule, first_broken

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.segmentation import Segmentation
    from datapipe.steps.step import Keys, Step

STOP_WORDS: Final = ("the", "be", "to", "of", "and", "that", "have", "with")
REASONS: Final = (
    "gopher_short_doc",
    "gopher_long_doc",
    "gopher_below_avg_threshold",
    "gopher_above_avg_threshold",
    "gopher_too_many_hashes",
    "gopher_too_many_ellipsis",
    "gopher_too_many_bullets",
    "gopher_too_many_end_ellipsis",
    "gopher_below_alpha_threshold",
    "gopher_enough_stop_words",
)
"""datatrove's names, in the order in which the rules are tried (the last means: too few of them)."""
SIGNALS: Final = (
    "gopher_dt.words",
    "gopher_dt.solid_words",
    "gopher_dt.solid_chars",
    "gopher_dt.alpha_words",
    "gopher_dt.stop_words",
    "gopher_dt.hashes",
    "gopher_dt.ellipses",
    "gopher_dt.lines",
    "gopher_dt.bullet_lines",
    "gopher_dt.ellipsis_lines",
)


@dataclass(frozen=True, kw_only=True)
class GopherQualityDatatroveOptions:
    """datatrove's options, by its names; null or 0 switches a rule off, and a value on the threshold breaks none.

    Attributes:
        min_doc_words, max_doc_words: words that have a character which is no punctuation.
        min_avg_word_length, max_avg_word_length: their mean length in characters.
        max_symbol_word_ratio: "#" per word, and "..." and "…" per word.
        max_bullet_lines_ratio: share of lines that begin with "•" or "-".
        max_ellipsis_lines_ratio: share of lines that end in "..." or "…".
        max_non_alpha_words_ratio: the least share of words with a letter (datatrove's name says the contrary).
        min_stop_words: how many different stop words must occur.
        stop_words: compared with whole words, case and all.
    """

    min_doc_words: int | None = 50
    max_doc_words: int | None = 100_000
    min_avg_word_length: float | None = 3.0
    max_avg_word_length: float | None = 10.0
    max_symbol_word_ratio: float | None = 0.1
    max_bullet_lines_ratio: float | None = 0.9
    max_ellipsis_lines_ratio: float | None = 0.3
    max_non_alpha_words_ratio: float | None = 0.8
    min_stop_words: int | None = 2
    stop_words: tuple[str, ...] = STOP_WORDS

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "stop_words":
                in_range(f"gopher_quality@datatrove.{field.name}", getattr(self, field.name), 0)
        for low, high in (("min_doc_words", "max_doc_words"), ("min_avg_word_length", "max_avg_word_length")):
            least, most = getattr(self, low), getattr(self, high)
            if least and most and least > most:
                raise ConfigError(
                    f"gopher_quality@datatrove.{low} = {least} lies above {high} = {most}",
                    expected=f"{low} ≤ {high}",
                    fix=f"swap them, or set {low} to 0 to switch it off",
                )


def gopher_signals(words: Segmentation, stop_words: tuple[str, ...] = STOP_WORDS) -> pa.Table:
    """What the rules look at, int64[n] each.

    Returns:
        `SIGNALS`: words, those that are not punctuation alone and their characters, those with a letter, different
        stop words; "#" and ellipses in the text; lines (`str.splitlines`), those that begin with a bullet, those that
        end in an ellipsis.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.steps.text_pieces import split_lines

    chunks = words.chunks
    lines = split_lines(chunks)
    bullets, ellipses = _bullets_and_ellipses(words, lines.starts, lines.ends)
    hashes = np.flatnonzero(chunks.data == ord("#"))
    table = words.table
    dots = pc.add(pc.count_substring(words.text, "..."), pc.count_substring(words.text, "…"))
    values = (
        words.counts,
        words.sums(table.solid),
        words.sums(np.where(table.solid, table.chars, 0)),
        words.sums(table.alpha),
        words.distinct_of(stop_words),
        np.diff(np.searchsorted(hashes, chunks.documents)),
        dots.to_numpy(),
        lines.counts,
        lines.sums(bullets),
        lines.sums(ellipses),
    )
    return pa.table({name: pa.array(each, pa.int64()) for name, each in zip(SIGNALS, values, strict=True)})


def _bullets_and_ellipses(
    words: Segmentation, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """For each line: does it begin with a bullet, does it end in an ellipsis, white space aside."""
    import numpy as np

    chunks = words.chunks
    data = np.concatenate((chunks.data, np.zeros(3, np.uint8)))
    first = np.searchsorted(chunks.starts, starts)
    last = np.searchsorted(chunks.starts, ends) - 1
    has = last >= first
    begin = chunks.starts[first[has]]
    stop = chunks.ends[last[has]]
    bullets = np.zeros(len(starts), bool)
    bullets[has] = (data[begin] == ord("-")) | _is(data, begin, "•")
    # Three bytes before the end of the last run of characters, or what cannot be an ellipsis.
    tail = np.where(stop - chunks.starts[last[has]] >= 3, stop - 3, len(chunks.data))
    ellipses = np.zeros(len(starts), bool)
    ellipses[has] = _is(data, tail, "...") | _is(data, tail, "…")
    return bullets, ellipses


def _is(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], three_bytes: str) -> npt.NDArray[np.bool_]:
    """Do the bytes at these places spell the text."""
    one, two, three = three_bytes.encode()
    same: npt.NDArray[np.bool_] = (data[at] == one) & (data[at + 1] == two) & (data[at + 2] == three)
    return same


def gopher_reasons(signals: pa.Table, options: GopherQualityDatatroveOptions) -> pa.Array:
    """The first rule that each row breaks: string[n], null where it breaks none; from stored signals."""
    lengths = ("gopher_dt.solid_chars", "gopher_dt.solid_words")
    rules: tuple[tuple[str, Literal["<", ">"], float | None, str | None], ...] = (
        ("gopher_dt.solid_words", "<", options.min_doc_words, None),
        ("gopher_dt.solid_words", ">", options.max_doc_words, None),
        (lengths[0], "<", options.min_avg_word_length, lengths[1]),
        (lengths[0], ">", options.max_avg_word_length, lengths[1]),
        ("gopher_dt.hashes", ">", options.max_symbol_word_ratio, "gopher_dt.words"),
        ("gopher_dt.ellipses", ">", options.max_symbol_word_ratio, "gopher_dt.words"),
        ("gopher_dt.bullet_lines", ">", options.max_bullet_lines_ratio, "gopher_dt.lines"),
        ("gopher_dt.ellipsis_lines", ">", options.max_ellipsis_lines_ratio, "gopher_dt.lines"),
        ("gopher_dt.alpha_words", "<", options.max_non_alpha_words_ratio, "gopher_dt.words"),
        ("gopher_dt.stop_words", "<", options.min_stop_words, None),
    )
    return first_broken(
        signals,
        (
            Rule(reason, part, sign, limit, whole)
            for reason, (part, sign, limit, whole) in zip(REASONS, rules, strict=True)
        ),
    )


def gopher_quality(table: pa.Table, keys: Keys, *, options: GopherQualityDatatroveOptions) -> pa.Table:
    """Mark the rows that break a rule.

    Args:
        table: `text: string`.
        keys: not used.
        options: thresholds.

    Returns:
        The table with `SIGNALS` (int64), broken rows marked drop with one of `REASONS`.
    """
    from datapipe.steps.segmentation import segmented

    del keys
    signals = gopher_signals(segmented(table), options.stop_words)
    return mark(set_columns(table, signals), gopher_reasons(signals, options))


def build(options: GopherQualityDatatroveOptions) -> Step:
    """The step with its options bound."""
    return partial(gopher_quality, options=options)


SPEC: Final = StepSpec(
    name="gopher_quality@datatrove",
    version=1,
    kind="map",
    options=GopherQualityDatatroveOptions,
    build=build,
    summary="Gopher's quality rules as datatrove has them, words split as spaCy splits English",
    reasons=REASONS,
    needs=("text",),
    signals=SIGNALS,
    judge=gopher_reasons,
    measured_by=("stop_words",),
)
