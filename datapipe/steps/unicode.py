r"""unicode: one spelling for each text. `text` enters and leaves; nothing else is touched.

In this order: line ends become "\n"; control characters go (tab and newline stay); NFC; white space at the end of
lines and at both ends of the text goes. Removal comes before NFC, because "e", NUL, U+0301 is in NFC only until the NUL
goes.

Invariant: the result is NFC, has no control character but tab and newline, and running the step again changes nothing.
A row of which nothing remains is dropped as "empty".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.steps.columns import TEXT, mark, set_column, text_of, to_arrow, to_polars
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

EMPTY: Final = "empty"

# Vertical tab, form feed and NEL end a line in Unicode (UAX 14, BK and NL): removing them would join two words.
_LINE_END: Final = r"\r\n?|[\x0B\x0C\x{85}]"
_CONTROL: Final = r"[\p{Cc}--[\n\t]]"
_ZERO_WIDTH: Final = r"[\x{200B}\x{200C}\x{200D}\x{2060}\x{FEFF}]"
_LINE_TAIL: Final = r"(?m)[\s--\n]+$"


@dataclass(frozen=True, kw_only=True)
class UnicodeOptions:
    """Options of unicode.

    Attributes:
        zero_width: remove zero-width space, joiner, non-joiner, word joiner and U+FEFF too. Off by default: joiners
            spell emoji sequences and words of Persian and the Indic scripts.
        strip: remove white space at the end of each line and at both ends of the text.
    """

    zero_width: bool = False
    strip: bool = True


def unicode(table: pa.Table, keys: Keys, *, options: UnicodeOptions) -> pa.Table:
    """Normalise `text`.

    Args:
        table: `text: string`.
        keys: not used.
        options: see UnicodeOptions.

    Returns:
        The table with `text: large_string`; rows with nothing but white space left are marked drop "empty".
    """
    del keys
    import polars as pl
    import pyarrow as pa

    series = to_polars(text_of(table))
    series = series.str.replace_all(_LINE_END, "\n").str.replace_all(_CONTROL, "")
    if options.zero_width:
        series = series.str.replace_all(_ZERO_WIDTH, "")
    series = series.str.normalize("NFC")
    if options.strip:
        series = series.str.replace_all(_LINE_TAIL, "").str.strip_chars()
    empty = ~series.str.contains(r"\S")
    table = set_column(table, TEXT, to_arrow(series))
    if not empty.any():
        return table
    reasons = pl.select(pl.when(empty).then(pl.lit(EMPTY))).to_series()
    return mark(table, to_arrow(reasons).cast(pa.string()))


def build(options: UnicodeOptions) -> Step:
    """The step with its options bound."""
    return partial(unicode, options=options)


SPEC: Final = StepSpec(
    name="unicode",
    version=1,
    kind="map",
    options=UnicodeOptions,
    build=build,
    summary="NFC, one kind of line end, no control characters, no trailing white space",
    reasons=(EMPTY,),
    needs=("text",),
    gives=("text",),
)
