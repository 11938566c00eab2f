"""fineweb@datatrove: the quality rules of FineWeb as datatrove 0.10 has them.

`text` enters; it leaves unchanged, with the rows that look like lists or boilerplate marked. Invariant: given the same
words, the mark is datatrove's (`fineweb_quality_filter.py`), reason and all; marks are a function of the signals and
the options alone.

Source: Penedo et al. 2024, arXiv:2406.17557, section 3.6 and appendix E.5; thresholds and the reading of each rule
after datatrove. FineWeb runs it after Gopher's rules and after C4's, the latter without the punctuation rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.steps.characters import TERMINAL_PUNCTUATION
from datapipe.steps.columns import mark, set_columns
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec
from datapipe.steps.thresholds import Rule, first_broken

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.segmentation import Segmentation
    from datapipe.steps.step import Keys, Step

REASONS: Final = ("empty", "line_punct_ratio", "short_line_ratio", "char_dup_ratio", "list_ratio")
"""datatrove's names, in the order in which the rules are tried."""
SIGNALS: Final = (
    "fineweb.lines",
    "fineweb.stopped_lines",
    "fineweb.short_lines",
    "fineweb.dup_line_chars",
    "fineweb.chars",
    "fineweb.newlines",
    "fineweb.words",
)


@dataclass(frozen=True, kw_only=True)
class FineWebOptions:
    """datatrove's options, by its names; a value on the threshold breaks no rule.

    Attributes:
        line_punct_thr: the least share of lines that end in one of `stop_chars`.
        line_punct_exclude_zero: a text without any such line passes that rule.
        stop_chars: single characters; none given means datatrove's 159 marks that end a sentence in some script.
        short_line_thr: the largest share of lines of at most `short_line_length` characters.
        short_line_length: in characters.
        char_duplicates_ratio: the largest share of characters in lines equal to one before.
        new_line_ratio: the most newlines per word.
    """

    line_punct_thr: float = 0.12
    line_punct_exclude_zero: bool = False
    stop_chars: tuple[str, ...] = ()
    short_line_thr: float = 0.67
    short_line_length: int = 30
    char_duplicates_ratio: float = 0.01
    new_line_ratio: float = 0.3

    def __post_init__(self) -> None:
        for name in ("line_punct_thr", "short_line_thr", "short_line_length", "char_duplicates_ratio"):
            in_range(f"fineweb.{name}", getattr(self, name), 0)
        in_range("fineweb.new_line_ratio", self.new_line_ratio, 0)
        for mark_ in self.stop_chars:
            if len(mark_) != 1:
                raise ConfigError(
                    f"fineweb.stop_chars holds {mark_!r}", expected="single characters", fix="split or remove it"
                )


def fineweb_signals(words: Segmentation, options: FineWebOptions) -> pa.Table:
    r"""What the rules look at, int64[n] each.

    Returns:
        `SIGNALS`: lines that are not blank (between "\n"), those that end in a stop character, those that are short,
        characters of those equal to one before; characters of the text without newlines; newlines; words.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.steps.text_pieces import lines

    chunks = words.chunks
    every = lines(chunks)
    newlines = every.counts - 1
    kept = every.where(np.searchsorted(chunks.starts, every.ends) > np.searchsorted(chunks.starts, every.starts))
    stops = np.array([ord(each) for each in options.stop_chars or sorted(TERMINAL_PUNCTUATION)], np.int64)
    chars = pc.utf8_length(words.text).cast(pa.int64()).to_numpy() - newlines
    values = (
        kept.counts,
        kept.sums(np.isin(kept.last_characters, stops)),
        kept.sums(kept.chars <= options.short_line_length),
        kept.repeated()[1],
        chars,
        newlines,
        words.counts,
    )
    return pa.table({name: pa.array(each, pa.int64()) for name, each in zip(SIGNALS, values, strict=True)})


def fineweb_reasons(signals: pa.Table, options: FineWebOptions) -> pa.Array:
    """The first rule that each row breaks: string[n], null where it breaks none; from stored signals."""
    import numpy as np

    none_stopped = signals.column("fineweb.stopped_lines").to_numpy() == 0
    lines = "fineweb.lines"
    return first_broken(
        signals,
        (
            Rule("empty", lines, "<", 1),
            Rule(
                "line_punct_ratio",
                "fineweb.stopped_lines",
                "<",
                options.line_punct_thr,
                lines,
                zero_is_off=False,
                unless=none_stopped if options.line_punct_exclude_zero else np.zeros(signals.num_rows, bool),
            ),
            Rule("short_line_ratio", "fineweb.short_lines", ">", options.short_line_thr, lines, zero_is_off=False),
            Rule(
                "char_dup_ratio",
                "fineweb.dup_line_chars",
                ">",
                options.char_duplicates_ratio,
                "fineweb.chars",
                zero_is_off=False,
            ),
            Rule("list_ratio", "fineweb.newlines", ">", options.new_line_ratio, "fineweb.words", zero_is_off=False),
        ),
    )


def fineweb(table: pa.Table, keys: Keys, *, options: FineWebOptions) -> pa.Table:
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
    signals = fineweb_signals(segmented(table), options)
    return mark(set_columns(table, signals), fineweb_reasons(signals, options))


def build(options: FineWebOptions) -> Step:
    """The step with its options bound."""
    return partial(fineweb, options=options)


SPEC: Final = StepSpec(
    name="fineweb@datatrove",
    version=1,
    kind="map",
    options=FineWebOptions,
    build=build,
    summary="FineWeb's quality rules as datatrove has them: line ends, short and repeated lines, lists",
    reasons=REASONS,
    needs=("text",),
    signals=SIGNALS,
    judge=fineweb_reasons,
    measured_by=("stop_chars", "short_line_length"),
)
