r"""boilerplate: lines that are not the author's go out of a text: repeated ones, policy lines, menus around the text.

`text` enters and leaves with fewer lines; what went is counted. A line ends at "\n" (the step `unicode` makes it so)
and is looked at without the white space at its ends. Three rules:

- A line of at least `min_repeated_chars` characters, three in five of them letters, that the same text has at least
  `min_occurrences` times stays where it is first and goes elsewhere. Code and tables repeat lines too; most of theirs
  have fewer letters.
- A line of at most `max_policy_chars` characters that holds a phrase of `boilerplate_phrases` goes.
- Menus: of the lines before the first and after the last line of prose, those of a run of at least `min_menu_lines`
  short lines that are made of words alone (letters, digits, and what menus put between them) go. A line of prose has 40
  characters or 15 of a script without spaces, and ends a sentence. A text without such a line keeps its short ones: it
  may be a poem or a list, and there is nothing that they would be around. The line before the first line of prose is
  its heading. Blank lines do not end a run.

Link density, by which jusText and the like tell a menu from a text, is gone once markup is text; `html_to_text` uses it
before. These rules are for what it lets pass, and for text that was extracted elsewhere.

Invariant: the lines that stay are those of the text, in their order, and a text that loses none is unchanged, byte for
byte; in one that does, blank lines that are left over are one at a time. A text that loses all is dropped as
"boilerplate_only".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from datapipe.steps.boilerplate_phrases import POLICY_PHRASES
from datapipe.steps.columns import TEXT, mark, set_column, text_of, to_arrow, to_polars
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

ONLY: Final = "boilerplate_only"
REPEATED: Final = "boilerplate.repeated_lines"
POLICY: Final = "boilerplate.policy_lines"
MENU: Final = "boilerplate.menu_lines"
COUNTS: Final = (REPEATED, POLICY, MENU)

_LETTERS: Final = 0.6
"""Share of letters in a line of words: English prose has 0.8, "if (state == NULL) {" 0.55."""

_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_PROSE: Final = rf"(?:^.{{39,}}|^.*[{_UNSPACED}].{{13,}})[.!?…。！？।؟۔][\"'”’»)\]』」）]*$"
_MENU_LINE: Final = r"^(?:[•·*–-]\s*)?[\p{L}\p{N}][\p{L}\p{M}\p{N} \t&'’+/|›»·(),-]{0,29}$"


@dataclass(frozen=True, kw_only=True)
class BoilerplateOptions:
    """Options of boilerplate.

    Attributes:
        repeated: remove repeated lines. min_repeated_chars: shorter ones may repeat ("}", "Example:").
        min_occurrences: a line that a text has less often may repeat.
        policy: remove policy lines. max_policy_chars: longer ones are prose.
        menus: remove menus. min_menu_lines: as many short lines, one after the other, are one.
    """

    repeated: bool = True
    min_repeated_chars: int = 20
    min_occurrences: int = 3
    policy: bool = True
    max_policy_chars: int = 200
    menus: bool = True
    min_menu_lines: int = 6

    def __post_init__(self) -> None:
        in_range("boilerplate.min_repeated_chars", self.min_repeated_chars, 1)
        in_range("boilerplate.min_occurrences", self.min_occurrences, 2)
        in_range("boilerplate.max_policy_chars", self.max_policy_chars, 1)
        in_range("boilerplate.min_menu_lines", self.min_menu_lines, 2)


def boilerplate(table: pa.Table, keys: Keys, *, options: BoilerplateOptions) -> pa.Table:
    """Remove lines that are not the author's.

    Args:
        table: `text: string`.
        keys: not used.
        options: see BoilerplateOptions.

    Returns:
        The table with `text: large_string` and the signals `COUNTS` (uint32, lines of each kind that went; a line that
        two rules name counts for the first); texts that had only such lines are marked drop "boilerplate_only".
    """
    del keys
    import polars as pl
    import pyarrow as pa

    text = to_polars(text_of(table)).alias("text")
    lines = _judged(text, options)
    went = lines.filter(pl.col("kind").is_not_null())
    counts = _counts(went, len(text))
    places = went["row"].unique().sort()
    if len(places):
        kept = lines.filter(pl.col("row").is_in(places.implode()) & pl.col("kind").is_null())
        joined = kept.group_by("row", maintain_order=True).agg(pl.col("line").str.join("\n"))
        all_of = places.to_frame().join(joined, on="row", how="left", maintain_order="left")["line"].fill_null("")
        tidy = all_of.str.replace_all(r"\n(?:[\s--\n]*\n){2,}", "\n\n").str.strip_chars("\n")
        text = text.clone().scatter(places, tidy)
    table = set_column(table, TEXT, to_arrow(text))
    for name in COUNTS:
        table = set_column(table, name, to_arrow(counts[name]))
    lost = counts.select(pl.any_horizontal(pl.col(COUNTS) > 0)).to_series() & ~text.str.contains(r"\S")
    if not lost.any():
        return table
    reasons = pl.select(pl.when(lost).then(pl.lit(ONLY))).to_series()
    return mark(table, to_arrow(reasons).cast(pa.string()))


def _judged(text: pl.Series, options: BoilerplateOptions) -> pl.DataFrame:
    """Every line: `row` uint32, `line` as it is, `kind` (index into COUNTS, uint8), null where it stays."""
    import polars as pl

    lines = (
        pl.DataFrame({"row": pl.int_range(len(text), dtype=pl.UInt32, eager=True), "line": text.str.split("\n")})
        .explode("line")
        .with_columns(bare=pl.col("line").str.strip_chars())
    )
    kinds = []
    if options.repeated:
        lines = lines.with_columns(again=_repeated_lines(lines, options.min_repeated_chars, options.min_occurrences))
        kinds.append(pl.when("again").then(0))
    if options.policy:
        short = (pl.col("bare").str.len_bytes() > 0) & (pl.col("bare").str.len_chars() <= options.max_policy_chars)
        kinds.append(pl.when(short & pl.col("bare").str.contains(_policy_pattern())).then(1))
    if options.menus:
        lines = lines.with_columns(menu=_menu_lines(lines, options.min_menu_lines))
        kinds.append(pl.when("menu").then(2))
    kind = pl.coalesce(kinds) if kinds else pl.lit(None)
    return lines.select("row", "line", kind.cast(pl.UInt8).alias("kind"))


def _repeated_lines(lines: pl.DataFrame, chars: int, times: int) -> pl.Series:
    """Which lines their text had before, often enough: Boolean[lines]. `row` and `bare` are read."""
    import polars as pl

    bare = pl.col("bare")
    found = (
        lines.select("row", "bare")
        .with_row_index("place")
        .filter(bare.str.len_chars() >= chars)
        .filter(pl.len().over("row", "bare") >= times)
        .filter(bare.str.count_matches(r"\p{L}") / bare.str.len_chars() >= _LETTERS)
        .filter(~pl.struct("row", "bare").is_first_distinct())
    )
    return pl.repeat(False, lines.height, dtype=pl.Boolean, eager=True).scatter(found["place"], True)


def _menu_lines(lines: pl.DataFrame, least: int) -> pl.Series:
    """Which lines belong to a menu: Boolean[lines]. `row` and `bare` are read."""
    import polars as pl

    bare = pl.col("bare")
    solid = (
        lines.select("row", "bare")
        .with_row_index("place")
        .filter(bare != "")
        .with_columns(is_menu=bare.str.contains(_MENU_LINE), is_prose=bare.str.contains(_PROSE))
        .with_columns(
            first=pl.col("place").filter("is_prose").min().over("row"),
            last=pl.col("place").filter("is_prose").max().over("row"),
        )
        .with_columns(before=pl.col("place") < pl.col("first"), after=pl.col("place") > pl.col("last"))
        # A run ends where another row begins, and at a line that is no menu's: prose, a heading, anything longer.
        .with_columns(
            heading=pl.col("before") & (pl.col("is_prose").shift(-1) & (pl.col("row") == pl.col("row").shift(-1)))
        )
        .with_columns(outside=pl.col("is_menu") & ~pl.col("heading") & (pl.col("before") | pl.col("after")))
        .with_columns(run=pl.struct("row", "outside").rle_id())
    )
    found = solid.filter(pl.col("outside").fill_null(False) & (pl.len().over("run") >= least))["place"]
    return pl.repeat(False, lines.height, dtype=pl.Boolean, eager=True).scatter(found, True)


@cache
def _policy_pattern() -> str:
    return "(?i)" + "|".join(re.escape(phrase).replace("\\ ", " ") for phrase in POLICY_PHRASES)


def _counts(went: pl.DataFrame, rows: int) -> pl.DataFrame:
    """Lines of each kind by row: COUNTS, uint32[rows]."""
    import polars as pl

    every = pl.DataFrame({"row": pl.int_range(rows, dtype=pl.UInt32, eager=True)})
    each = went.group_by("row").agg(
        (pl.col("kind") == number).sum().cast(pl.UInt32).alias(name) for number, name in enumerate(COUNTS)
    )
    return every.join(each, on="row", how="left", maintain_order="left").select(pl.col(COUNTS).fill_null(0))


def build(options: BoilerplateOptions) -> Step:
    """The step with its options bound."""
    return partial(boilerplate, options=options)


SPEC: Final = StepSpec(
    name="boilerplate",
    version=1,
    kind="map",
    options=BoilerplateOptions,
    build=build,
    summary="lines that are not the author's: repeated ones, policies, menus around the text",
    reasons=(ONLY,),
    needs=("text",),
    gives=("text",),
    signals=COUNTS,
    counters=COUNTS,
)
