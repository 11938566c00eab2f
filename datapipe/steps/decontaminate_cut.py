"""Runs of words, by their place among a document's words → the text without them, or the words as they stand.

What enters: a text and runs found in it (`decontaminate_index.Hits`). What leaves: text. Invariant: the words of what
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

    from datapipe.steps.decontaminate_index import Hits

QUOTED: Final = 160
"""Characters of a run that a report shows."""


def cut(text: str, hits: Hits) -> str:
    """The text without the runs: from the first character of their first word to the last of their last.

    Args:
        text: the document.
        hits: runs in it; `starts` counts its words from 0.
    """
    import numpy as np

    whole, begins, ends = _placed(text)
    parts = []
    at = 0
    order = np.argsort(hits.starts, kind="stable")
    for start, last in zip(hits.starts[order].tolist(), (hits.starts + hits.lengths)[order].tolist(), strict=True):
        begin, end = int(begins[start]), int(ends[last - 1])
        parts.append(whole[at:begin])
        while end < len(whole) and whole[end].isspace():
            end += 1
        at = max(at, end)
    joined = parts[0] if parts else ""
    for part in parts[1:]:
        joined = _beside(joined, part)
    return _beside(joined, whole[at:])


def quoted(text: str, start: int, length: int) -> str:
    """The words of a run as they stand in the text, white space as one blank, QUOTED characters at most."""
    whole, begins, ends = _placed(text)
    found = " ".join(whole[int(begins[start]) : int(ends[start + length - 1])].split())
    return f'"{found}"' if len(found) <= QUOTED else f'"{found[:QUOTED]}…"'


def _beside(left: str, right: str) -> str:
    """Two texts, apart: their words stay words of their own."""
    return left + right if not left or not right or left[-1].isspace() or right[0].isspace() else f"{left} {right}"


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
