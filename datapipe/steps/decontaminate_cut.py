"""Runs of words, by their place among a document's words → the text without them, or the words as they stand.

What enters: a text and which of its words lie in runs that were found. What leaves: text. Invariant: the words of what
is left are the text's words outside the runs, in order; white space after a cut goes with it.

A text that is cut leaves in NFC, the form in which words are counted; one that is not is left as it is.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from datapipe.steps.word_hashes import LONGEST, pieces, word_places

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

QUOTED: Final = 160
"""Characters of a run that a report shows."""


def cut(text: str, covered: npt.NDArray[np.bool_]) -> str:
    """The text without the runs: from the first character of their first word to the last of their last.

    Args:
        text: the document.
        covered: bool[w], which of its words lie in a run (`decontaminate_index.covered_words`).
    """
    import numpy as np

    whole, begins, ends = _placed(text)
    edges = np.flatnonzero(np.diff(covered, prepend=False, append=False))
    parts: list[str] = []
    at = 0
    for begin, end in zip(begins[edges[::2]].tolist(), ends[edges[1::2] - 1].tolist(), strict=True):
        _add(parts, whole[at:begin])
        at = end
        while at < len(whole) and whole[at].isspace():
            at += 1
    _add(parts, whole[at:])
    return "".join(parts)


def quoted(text: str, start: int, length: int) -> str:
    """The words of a run as they stand in the text, white space as one blank, QUOTED characters at most."""
    whole, begins, ends = _placed(text)
    found = " ".join(whole[int(begins[start]) : int(ends[start + length - 1])].split())
    return f'"{found}"' if len(found) <= QUOTED else f'"{found[:QUOTED]}…"'


def _add(parts: list[str], part: str) -> None:
    """Another part, apart from the one before: their words stay words of their own."""
    if not part:
        return
    if parts and not parts[-1][-1].isspace() and not part[0].isspace():
        parts.append(" ")
    parts.append(part)


def _placed(text: str) -> tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The text in NFC, and the first character of each word in it and the one after its last."""
    import numpy as np

    document = text.encode("utf-8", "replace")
    parts: list[str] = []
    begins, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    at = seen = 0
    for piece in pieces(document):
        seen += len(piece)
        part = unicodedata.normalize("NFC", piece.decode("utf-8", "replace"))
        first, last = word_places(part)
        begins.append(first + at)
        ends.append(last + at)
        parts.append(part)
        at += len(part)
    # What lies beyond LONGEST is no part of any run, and stays.
    rest = document[seen:].decode("utf-8", "replace") if len(document) > LONGEST else ""
    return "".join(parts) + rest, np.concatenate(begins), np.concatenate(ends)
