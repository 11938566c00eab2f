r"""gopher_quality@whitespace: the quality rules of Gopher, with words split on white space.

`text` enters; it leaves unchanged, with the rows that break a rule marked. Invariant: a row's reason is the first rule
it breaks in the order of `REASONS`, and the marks are a function of `gopher_signals` and the options alone, so that
stored signals can be judged again under other thresholds.

Source: Rae et al. 2021, arXiv:2112.11446, appendix A.1.1, "Quality Filtering"; thresholds and the reading of each rule
after datatrove 0.10 (`gopher_quality_filter.py`). What differs from datatrove, and why the variant has a name:

- A word is a run of characters that are not white space. datatrove splits with spaCy, which makes tokens of
  punctuation: "end." is one word of 4 characters here, and "end" and "." there. So this variant counts fewer words,
  finds them longer, and finds "with," to be no stop word.
- A symbol word is one made of Unicode punctuation and symbols (categories P and S) alone; datatrove has a list of some
  80 characters.
- Lines end at "\n" alone (the step `unicode` makes it so); Python's `splitlines` knows ten more line ends.
- A text without words breaks the first rule; datatrove divides by zero.

The stop words are English. For other languages, set `stop_words`, or `min_stop_words=0`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.steps.columns import mark, text_of, to_arrow, to_polars
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

STOP_WORDS: Final = ("the", "be", "to", "of", "and", "that", "have", "with")

REASONS: Final = (
    "gopher_too_few_words",
    "gopher_too_many_words",
    "gopher_short_words",
    "gopher_long_words",
    "gopher_too_many_hashes",
    "gopher_too_many_ellipses",
    "gopher_too_many_bullet_lines",
    "gopher_too_many_ellipsis_lines",
    "gopher_too_few_alpha_words",
    "gopher_too_few_stop_words",
)
"""In the order in which the rules are tried."""

PREFIX: Final = "gopher_whitespace."
SIGNALS: Final = tuple(
    PREFIX + name
    for name in (
        "words",
        "solid_words",
        "alpha_words",
        "solid_chars",
        "hashes",
        "ellipses",
        "lines",
        "bullet_lines",
        "ellipsis_lines",
        "stop_words",
    )
)
"""As they are stored, in the order of `gopher_signals`."""

# A class that is not white space, punctuation or symbol: a word has one exactly if it is no symbol word. Matching from
# the first such character to the word's end gives one match a word.
_SOLID_WORD: Final = r"[^\s\p{P}\p{S}]\S*"
_SYMBOL_RUN: Final = r"[\p{P}\p{S}]*"
_ALPHA_WORD: Final = r"\p{L}\S*"


@dataclass(frozen=True, kw_only=True)
class GopherQualityOptions:
    """Thresholds; a row breaks a rule if it lies beyond one, never if it lies on it.

    Attributes:
        min_words, max_words: words that are not symbols alone.
        min_mean_word_length, max_mean_word_length: their mean length in characters.
        max_hash_ratio: "#" per word. max_ellipsis_ratio: "..." and "…" per word.
        max_bullet_lines: share of lines that begin with "•" or "-".
        max_ellipsis_lines: share of lines that end in "..." or "…".
        min_alpha_words: share of words with an alphabetic character (Unicode category L).
        min_stop_words: how many different stop words must occur; 0 for text that is not English.
        stop_words: compared with whole words, case and all.
    """

    min_words: int = 50
    max_words: int = 100_000
    min_mean_word_length: float = 3.0
    max_mean_word_length: float = 10.0
    max_hash_ratio: float = 0.1
    max_ellipsis_ratio: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alpha_words: float = 0.8
    min_stop_words: int = 2
    stop_words: tuple[str, ...] = STOP_WORDS

    def __post_init__(self) -> None:
        for name in ("min_words", "max_words", "min_mean_word_length", "max_mean_word_length", "min_stop_words"):
            in_range(f"gopher_quality.{name}", getattr(self, name), 0)
        for name in ("max_hash_ratio", "max_ellipsis_ratio"):
            in_range(f"gopher_quality.{name}", getattr(self, name), 0)
        for name in ("max_bullet_lines", "max_ellipsis_lines", "min_alpha_words"):
            in_range(f"gopher_quality.{name}", getattr(self, name), 0, 1)
        for low, high in (("min_words", "max_words"), ("min_mean_word_length", "max_mean_word_length")):
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(
                    f"gopher_quality.{low} = {getattr(self, low)} lies above {high} = {getattr(self, high)}",
                    expected=f"{low} ≤ {high}",
                    fix=f"swap them, or lower {low}",
                )
        in_range("gopher_quality.min_stop_words", self.min_stop_words, 0, len(set(self.stop_words)))
        for word in self.stop_words:
            if not word or re.search(r"\s", word):
                raise ConfigError(
                    f"gopher_quality.stop_words holds {word!r}", expected="single words", fix="split or remove it"
                )


def gopher_signals(text: pa.ChunkedArray, stop_words: tuple[str, ...] = STOP_WORDS) -> pa.Table:
    """What the rules look at, one row per document.

    Args:
        text: large_string, no nulls.
        stop_words: the words to look for.

    Returns:
        A table of n rows: `words`, `solid_words` (not symbols alone), `alpha_words`, `solid_chars` (characters of the
        solid words), `hashes`, `ellipses`, `lines`, `bullet_lines`, `ellipsis_lines`, `stop_words` (distinct): uint32.
    """
    import polars as pl

    frame = _signals(to_polars(text).alias("text").to_frame().lazy(), stop_words)
    return frame.collect().to_arrow(compat_level=pl.CompatLevel.oldest())


def _signals(frame: pl.LazyFrame, stop_words: tuple[str, ...]) -> pl.LazyFrame:
    """The signals of a frame's column `text`."""
    import polars as pl

    text = pl.col("text")
    rest = text.str.replace_all(_SYMBOL_RUN + _SOLID_WORD, "")
    ends_open = (~text.str.ends_with("\n")) & (text.str.len_bytes() > 0)
    found = [text.str.contains(rf"(?:^|\s){re.escape(word)}(?:\s|$)") for word in dict.fromkeys(stop_words)]
    counts = {
        "words": text.str.count_matches(r"\S+"),
        "solid_words": text.str.count_matches(_SOLID_WORD),
        "alpha_words": text.str.count_matches(_ALPHA_WORD),
        "solid_chars": text.str.len_chars() - rest.str.len_chars(),
        "hashes": text.str.count_matches("#", literal=True),
        "ellipses": text.str.count_matches(r"\.\.\.|…"),
        "lines": text.str.count_matches("\n", literal=True) + ends_open.cast(pl.UInt32),
        "bullet_lines": text.str.count_matches(r"(?m)^[\s--\n]*[•\-]"),
        "ellipsis_lines": text.str.count_matches(r"(?m)(?:\.\.\.|…)[\s--\n]*$"),
        "stop_words": pl.sum_horizontal([each.cast(pl.UInt32) for each in found]) if found else pl.lit(0),
    }
    return frame.select(expression.cast(pl.UInt32).alias(name) for name, expression in counts.items())


def gopher_reasons(signals: pa.Table, options: GopherQualityOptions) -> pa.Array:
    """The first rule that each row breaks: string[n], null where it breaks none; from stored signals."""
    import polars as pl
    import pyarrow as pa

    frame = pl.from_arrow(signals)
    assert isinstance(frame, pl.DataFrame)
    # A quotient is rounded correctly, so that a share written 0.8 in the options equals 4 of 5 exactly; a product
    # is not always. Without words or lines there is no share: null, which breaks no rule.
    words, lines, solid = (
        pl.when(pl.col(name) > 0).then(pl.col(name).cast(pl.Float64)) for name in ("words", "lines", "solid_words")
    )
    mean_length = pl.col("solid_chars") / solid
    broken = (
        pl.col("solid_words") < options.min_words,
        pl.col("solid_words") > options.max_words,
        mean_length < options.min_mean_word_length,
        mean_length > options.max_mean_word_length,
        pl.col("hashes") / words > options.max_hash_ratio,
        pl.col("ellipses") / words > options.max_ellipsis_ratio,
        pl.col("bullet_lines") / lines > options.max_bullet_lines,
        pl.col("ellipsis_lines") / lines > options.max_ellipsis_lines,
        pl.col("alpha_words") / words < options.min_alpha_words,
        pl.col("stop_words") < options.min_stop_words,
    )
    reason = pl.coalesce(pl.when(rule).then(pl.lit(name)) for rule, name in zip(broken, REASONS, strict=True))
    series = frame.select(reason.alias("reason")).to_series()
    return to_arrow(series).cast(pa.string())


def gopher_quality(table: pa.Table, keys: Keys, *, options: GopherQualityOptions) -> pa.Table:
    """Mark the rows that break a rule.

    Args:
        table: `text: string`.
        keys: not used.
        options: thresholds.

    Returns:
        The table with the signals, broken rows marked drop with one of `REASONS`.
    """
    del keys
    signals = gopher_signals(text_of(table), options.stop_words)
    for name in signals.column_names:
        table = table.append_column(f"{PREFIX}{name}", signals.column(name))
    return mark(table, gopher_reasons(signals, options))


def judge(signals: pa.Table, options: GopherQualityOptions) -> pa.Array:
    """What the step marks, from its stored signals: string[n], null where a row stays."""
    mine = signals.select(list(SIGNALS))
    return gopher_reasons(mine.rename_columns([name.removeprefix(PREFIX) for name in SIGNALS]), options)


def build(options: GopherQualityOptions) -> Step:
    """The step with its options bound."""
    return partial(gopher_quality, options=options)


SPEC: Final = StepSpec(
    name="gopher_quality@whitespace",
    version=2,
    kind="map",
    options=GopherQualityOptions,
    build=build,
    summary="Gopher's quality rules, words split on white space",
    reasons=REASONS,
    needs=("text",),
    signals=SIGNALS,
    judge=judge,
    measured_by=("stop_words",),
)
