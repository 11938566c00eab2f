"""gopher_repetition@datatrove: the repetition rules of Gopher as datatrove 0.10 has them.

`text` enters; it leaves unchanged, with the rows that repeat themselves marked. Invariant: given the same words, the
mark is datatrove's (`gopher_repetition_filter.py`), reason and all; marks are a function of the signals and the options
alone.

Source: Rae et al. 2021, arXiv:2112.11446, appendix A.1.1, "Repetition Removal", table A1; the reading of each rule
after datatrove. An empty text breaks no rule (datatrove divides by zero).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.steps.columns import mark, set_columns
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec
from datapipe.steps.thresholds import Rule, first_broken

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.segmentation import Segmentation
    from datapipe.steps.step import Keys, Step

_TOP: Final = (2, 3, 4)
_DUPLICATE: Final = (5, 6, 7, 8, 9, 10)
REASONS: Final = (
    "dup_para_frac",
    "dup_para_char_frac",
    "dup_line_frac",
    "dup_line_char_frac",
    *(f"top_{n}_gram" for n in _TOP),
    *(f"duplicated_{n}_n_grams" for n in _DUPLICATE),
)
"""datatrove's names, in the order in which the rules are tried."""
SIGNALS: Final = (
    "gopher_rep.chars",
    "gopher_rep.paragraphs",
    "gopher_rep.dup_paragraphs",
    "gopher_rep.dup_paragraph_chars",
    "gopher_rep.lines",
    "gopher_rep.dup_lines",
    "gopher_rep.dup_line_chars",
    *(f"gopher_rep.top_{n}_gram_chars" for n in _TOP),
    *(f"gopher_rep.dup_{n}_gram_chars" for n in _DUPLICATE),
)


@dataclass(frozen=True, kw_only=True)
class GopherRepetitionOptions:
    """Shares, the most that stays; null switches a rule off (so does 0 for lines and paragraphs, as in datatrove).

    Attributes:
        dup_line_frac, dup_para_frac: lines and paragraphs equal to one before, of all.
        dup_line_char_frac, dup_para_char_frac: their characters, of the text's.
        top_2_gram, top_3_gram, top_4_gram: characters of the most frequent n-gram of words, of the text's.
        dup_5_gram, dup_6_gram, dup_7_gram, dup_8_gram, dup_9_gram, dup_10_gram: characters in n-grams of words that
            were there before, of the text's.
    """

    dup_line_frac: float | None = 0.3
    dup_para_frac: float | None = 0.3
    dup_line_char_frac: float | None = 0.2
    dup_para_char_frac: float | None = 0.2
    top_2_gram: float | None = 0.2
    top_3_gram: float | None = 0.18
    top_4_gram: float | None = 0.16
    dup_5_gram: float | None = 0.15
    dup_6_gram: float | None = 0.14
    dup_7_gram: float | None = 0.13
    dup_8_gram: float | None = 0.12
    dup_9_gram: float | None = 0.11
    dup_10_gram: float | None = 0.10

    def __post_init__(self) -> None:
        for each in fields(self):
            in_range(f"gopher_repetition@datatrove.{each.name}", getattr(self, each.name), 0)


def repetition_signals(words: Segmentation) -> pa.Table:
    """What the rules look at, int64[n] each.

    Returns:
        `SIGNALS`: characters of the text; paragraphs (the stripped text between two or more newlines) and lines
        (the text between newlines), those equal to one before and the characters of these; characters of the most
        frequent n-gram times its count, and of the n-grams found to be there before.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.steps.repeated_ngrams import repeated_ngrams
    from datapipe.steps.text_pieces import line_blocks, paragraphs

    values = [pc.utf8_length(words.text).cast(pa.int64())]
    for pieces in (paragraphs(words.chunks), line_blocks(words.chunks)):
        values += [pieces.counts, *pieces.repeated()]
    grams = repeated_ngrams(words.codes, words.offsets, words.table, top=_TOP, duplicate=_DUPLICATE)
    values += [grams[n] for n in (*_TOP, *_DUPLICATE)]
    return pa.table({name: pa.array(each, pa.int64()) for name, each in zip(SIGNALS, values, strict=True)})


def repetition_reasons(signals: pa.Table, options: GopherRepetitionOptions) -> pa.Array:
    """The first rule that each row breaks: string[n], null where it breaks none; from stored signals."""
    chars = "gopher_rep.chars"
    rules = [
        Rule("dup_para_frac", "gopher_rep.dup_paragraphs", ">", options.dup_para_frac, "gopher_rep.paragraphs"),
        Rule("dup_para_char_frac", "gopher_rep.dup_paragraph_chars", ">", options.dup_para_char_frac, chars),
        Rule("dup_line_frac", "gopher_rep.dup_lines", ">", options.dup_line_frac, "gopher_rep.lines"),
        Rule("dup_line_char_frac", "gopher_rep.dup_line_chars", ">", options.dup_line_char_frac, chars),
    ]
    for kind, reason, sizes in (("top", "top_{}_gram", _TOP), ("dup", "duplicated_{}_n_grams", _DUPLICATE)):
        rules += [
            Rule(
                reason.format(n),
                f"gopher_rep.{kind}_{n}_gram_chars",
                ">",
                getattr(options, f"{kind}_{n}_gram"),
                chars,
                zero_is_off=False,
            )
            for n in sizes
        ]
    return first_broken(signals, rules)


def gopher_repetition(table: pa.Table, keys: Keys, *, options: GopherRepetitionOptions) -> pa.Table:
    """Mark the rows that repeat themselves.

    Args:
        table: `text: string`.
        keys: not used.
        options: thresholds.

    Returns:
        The table with `SIGNALS` (int64), broken rows marked drop with one of `REASONS`.
    """
    from datapipe.steps.segmentation import segmented

    del keys
    signals = repetition_signals(segmented(table))
    return mark(set_columns(table, signals), repetition_reasons(signals, options))


def build(options: GopherRepetitionOptions) -> Step:
    """The step with its options bound."""
    return partial(gopher_repetition, options=options)


SPEC: Final = StepSpec(
    name="gopher_repetition@datatrove",
    version=1,
    kind="map",
    options=GopherRepetitionOptions,
    build=build,
    summary="Gopher's repetition rules as datatrove has them: lines, paragraphs and n-grams",
    reasons=REASONS,
    needs=("text",),
    signals=SIGNALS,
    judge=repetition_reasons,
)
