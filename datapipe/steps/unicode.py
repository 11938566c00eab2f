r"""unicode: one spelling for each text. `text` enters and leaves; nothing else is touched.

In this order: mojibake is undone (`mojibake`, on the lines that look like it); line ends become "\n"; control
characters go (tab and newline stay), and invisible ones as the options say; NFC; white space at the end of lines and at
both ends of the text goes. Removal comes before NFC, because "e", NUL, U+0301 is in NFC only until the NUL goes. What
looks like mojibake only after all this is undone as well, so that a second run finds nothing.

Invariant: the result is NFC, has no control character but tab and newline, and running the step again changes nothing.
A row of which nothing remains is dropped as "empty". Each pass looks for what it would change before it changes it:
clean text is read and not written.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from datapipe.steps.columns import TEXT, mark, set_column, text_of, to_arrow, to_polars
from datapipe.steps.mojibake import repaired
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

EMPTY: Final = "empty"
MOJIBAKE: Final = "unicode.mojibake"

# Vertical tab, form feed and NEL end a line in Unicode (UAX 14, BK and NL): removing them would join two words.
_LINE_END: Final = r"\r\n?|[\x0B\x0C\x{85}]"
_CONTROL: Final = r"[\p{Cc}--[\n\t]]"
_ZERO_WIDTH: Final = r"[\x{200B}\x{200C}\x{200D}\x{2060}\x{FEFF}]"
# Unicode Standard Annex 9, section 2: overrides turn characters against their own direction and are what hides one text
# behind another (CVE-2021-42574); embeddings, isolates and marks only help mixed text to be set.
_OVERRIDES: Final = r"[\x{202D}\x{202E}]"
_BIDI: Final = r"[\x{061C}\x{200E}\x{200F}\x{202A}-\x{202E}\x{2066}-\x{2069}]"
_LINE_TAIL: Final = r"(?m)[\s--\n]+$"
_BLANKS: Final = r"[\s--\n]+"

_NOT_NFC: Final = (
    r"[\p{M}\x{374}\x{37E}\x{387}\x{958}-\x{95F}\x{9DC}-\x{9DF}\x{A33}-\x{A36}\x{A59}-\x{A5E}\x{B5C}\x{B5D}"
    r"\x{F43}-\x{F69}\x{1100}-\x{11FF}\x{1F70}-\x{1FFF}\x{2000}\x{2001}\x{2126}\x{212A}\x{212B}\x{2329}\x{232A}\x{2ADC}"
    r"\x{F900}-\x{FAFF}\x{FB1D}-\x{FB4E}\x{16D63}-\x{16D6A}\x{1D15E}-\x{1D1C0}\x{2F800}-\x{2FA1F}]"
)
"""A text without any of these is in NFC: all characters that NFC replaces, composes with what stands before them, or
reorders (Unicode Standard Annex 15, section 9, NFC_Quick_Check), and some of their blocks' others."""

_ROUNDS: Final = 10
"""Mojibake of mojibake of … is undone as often, at most; more has not been seen."""


@dataclass(frozen=True, kw_only=True)
class UnicodeOptions:
    """Options of unicode.

    Attributes:
        mojibake: undo text that was decoded by the wrong encoding ("cafÃ©"), by ftfy, in lines that look like it.
        zero_width: remove zero-width space, joiner, non-joiner, word joiner and U+FEFF too. Off by default: joiners
            spell emoji sequences and words of Persian and the Indic scripts.
        bidi: which invisible controls of writing direction go: "overrides" (U+202D, U+202E), "all" or "none".
        strip: remove white space at the end of each line and at both ends of the text.
        single_blanks: make every run of white space within a line one space; it is what prose needs and what ruins
            code and tables.
        max_blank_lines: of more blank lines than these, one after the other, the rest goes; null: all stay.
    """

    mojibake: bool = True
    zero_width: bool = False
    bidi: Literal["none", "overrides", "all"] = "overrides"
    strip: bool = True
    single_blanks: bool = False
    max_blank_lines: int | None = None

    def __post_init__(self) -> None:
        in_range("unicode.max_blank_lines", self.max_blank_lines, 0, 1000)


def unicode(table: pa.Table, keys: Keys, *, options: UnicodeOptions) -> pa.Table:
    """Normalise `text`.

    Args:
        table: `text: string`.
        keys: not used.
        options: see UnicodeOptions.

    Returns:
        The table with `text: large_string` and the signal "unicode.mojibake" (uint8: 1 where a text was repaired); rows
        with nothing but white space left are marked drop "empty".
    """
    del keys
    import polars as pl
    import pyarrow as pa

    series = to_polars(text_of(table))
    if options.mojibake:
        looked_at, mended = repaired(series)
        series = _cleaned(looked_at, options)
        for _ in range(_ROUNDS):
            # What is as it was when it was looked at holds nothing new.
            places = (series != looked_at).arg_true()
            looked_at, changed = repaired(series.gather(places))
            changed_places = places.filter(changed)
            if not len(changed_places):
                break
            mended = mended.scatter(changed_places, True)
            series = series.clone().scatter(places, looked_at)
            looked_at = series.clone()
            series = _changed(series, mended, lambda some: _cleaned(some, options))
    else:
        series, mended = _cleaned(series, options), pl.repeat(False, len(series), dtype=pl.Boolean, eager=True)
    empty = ~series.str.contains(r"\S")
    table = set_column(table, TEXT, to_arrow(series))
    table = set_column(table, MOJIBAKE, to_arrow(mended.cast(pl.UInt8)))
    if not empty.any():
        return table
    reasons = pl.select(pl.when(empty).then(pl.lit(EMPTY))).to_series()
    return mark(table, to_arrow(reasons).cast(pa.string()))


def _cleaned(series: pl.Series, options: UnicodeOptions) -> pl.Series:
    """All but mojibake."""
    series = _replaced(_replaced(series, _LINE_END, "\n"), _CONTROL, "")
    if options.zero_width:
        series = _replaced(series, _ZERO_WIDTH, "")
    if options.bidi != "none":
        series = _replaced(series, _BIDI if options.bidi == "all" else _OVERRIDES, "")
    series = _changed(series, series.str.contains(_NOT_NFC), lambda some: some.str.normalize("NFC"))
    if options.single_blanks:
        series = _replaced(series, _BLANKS, " ")
    if options.strip:
        series = series.str.replace_all(_LINE_TAIL, "").str.strip_chars()
    if options.max_blank_lines is not None:
        # A blank line may hold blanks where `strip` is off.
        blank = r"(?:[\s--\n]*\n)"
        kept = "\n" * (options.max_blank_lines + 1)
        series = _replaced(series, rf"\n{blank}{{{options.max_blank_lines + 1},}}", kept)
    return series


def _replaced(series: pl.Series, pattern: str, value: str) -> pl.Series:
    """Every match replaced; a column without any is returned as it is."""
    return _changed(series, series.str.contains(pattern), lambda some: some.str.replace_all(pattern, value))


def _changed(series: pl.Series, where: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """The column with `change` applied to the rows of `where`: most passes change a row in a hundred."""
    places = where.arg_true()
    if not len(places):
        return series
    if len(places) == len(series):
        return change(series)
    return series.clone().scatter(places, change(series.gather(places)))


def build(options: UnicodeOptions) -> Step:
    """The step with its options bound."""
    return partial(unicode, options=options)


SPEC: Final = StepSpec(
    name="unicode",
    version=2,
    kind="map",
    options=UnicodeOptions,
    build=build,
    summary="NFC, mojibake undone, one kind of line end, no control characters, no trailing white space",
    reasons=(EMPTY,),
    needs=("text",),
    gives=("text",),
    signals=(MOJIBAKE,),
    counters=(MOJIBAKE,),
)
