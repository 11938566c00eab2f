r"""Mojibake: text that was decoded by the wrong encoding, found in columns and repaired by ftfy.

What enters: texts. What leaves: the same, repaired where a line looks wrong and a decoding by which it looks right is
found. Invariant: the result is what `ftfy.fix_encoding` gives for every line of every text; which lines can be changed
at all is decided by ftfy's own expression (`ftfy.badness`), put into the syntax of the columns' engine, so that only
these lines are shown to ftfy. On clean text that costs a two-hundredth of ftfy.

Source: ftfy 6.3 (Robyn Speer), `badness.py`: sequences of the some 400 characters that occur where UTF-8 was read as
Latin-1, Windows-125x, MacRoman or CP437, and that hardly occur elsewhere.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import polars as pl

_PIECE: Final = 1_000_000
"""Characters of a line that ftfy is shown at a time, as in `ftfy.fix_text` (`max_decode_length`)."""


_LONE_NEL: Final = "(?<![\x80-\xbf\xc2-\xf4])\x85"
"""U+0085 that cannot be a byte of a character read as Latin-1: a line end. ftfy would read it as Windows-1252's "…"."""


@cache
def suspect_pattern() -> str:
    r"""The expression of ftfy as the columns' engine (Rust's regex) reads it: it finds every line that ftfy finds.

    It may find more: \s, \w and the start of a text are wider there. ftfy decides.
    """
    from ftfy.badness import BADNESS_RE

    return "(?m)" + _compact(BADNESS_RE.pattern)


def _compact(verbose: str) -> str:
    """A verbose Python expression without its blanks and comments, for an engine that reads `[` `&` `~` in classes."""
    out: list[str] = []
    inside = False
    characters = iter(verbose)
    for character in characters:
        if character == "\\":
            escaped = next(characters)
            # Python's \s has four control characters that Unicode's white space has not.
            out.append(r"[\s\x1c-\x1f]" if escaped == "s" and not inside else character + escaped)
        elif inside:
            inside = character != "]"
            out.append("\\" + character if character in "[&~" else character)
        elif character == "#":
            while next(characters, "\n") != "\n":
                pass
        elif not character.isspace():
            inside = character == "["
            out.append(character)
    return "".join(out)


def repaired(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    r"""Texts with mojibake undone, and which of them were changed.

    Args:
        texts: String, no nulls; lines end at "\n".

    Returns:
        (texts: String[n], changed: Boolean[n]).
    """
    import polars as pl

    places = texts.str.contains(suspect_pattern()).arg_true()
    if not len(places):
        return texts, pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True)
    before = texts.gather(places)
    after = pl.Series(texts.name, [repair(text) for text in before.to_list()], pl.String)
    differs = before != after
    changed = pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True).scatter(places, differs)
    return texts.clone().scatter(places, after), changed


def repair(text: str) -> str:
    """One text, each line of it by `ftfy.fix_encoding`."""
    from ftfy.badness import is_bad

    text = re.sub(_LONE_NEL, "\n", text)
    return "\n".join(_repaired_line(line) if is_bad(line) else line for line in text.split("\n"))


def _repaired_line(line: str) -> str:
    from ftfy import TextFixerConfig, fix_encoding

    plain = TextFixerConfig(explain=False)
    return "".join(fix_encoding(line[at : at + _PIECE], plain) for at in range(0, len(line), _PIECE))
