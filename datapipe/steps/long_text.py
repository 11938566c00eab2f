"""Cut a long document into pieces that a tokenizer encodes exactly as it encodes the whole.

What enters: a tokenizer, a text. What leaves: the pieces, which joined are the text. Invariant: the ids of the pieces,
one after the other, are the ids of the whole. That holds only for tokenizers known to split first by GPT-2's pattern
(`cuts_are_exact`); for any other, a text is one piece.

Why: the library holds some 90 bytes for each byte of a text while it encodes, so a document of 64 MB would take 6 GB.

Why it is exact: GPT-2's pattern (ByteLevel) reads from left to right and never looks back. No alternative but the
leading " ?" joins white space with what follows it, and none joins it with what comes before. So before a single space
or newline between two characters that are not white space, one match ends and another begins, whatever follows.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE: Final = 1 << 18
"""Characters after which a piece ends at the next place where it may."""

# What counts as white space is left to no library's table: controls and the no-break space are no neighbours of a cut.
_CUT: Final = re.compile(r"(?<=[^\s\x00-\x20\x7f-\xa0])[ \n](?=[^\s\x00-\x20\x7f-\xa0])")


def cuts_are_exact(tokenizer: Any) -> bool:
    """Whether a tokenizer encodes the pieces of `pieces` as it encodes the whole.

    It does if it splits by GPT-2's pattern before all else: a ByteLevel pre-tokenizer with its pattern on and no prefix
    space, no normalizer, and no added token that is looked for in text. Its words may be split further by patterns,
    which see one word at a time.
    """
    data = json.loads(tokenizer.to_str())
    splitter = data.get("pre_tokenizer") or {}
    further: list[Any] = []
    if splitter.get("type") == "Sequence":
        splitter, *further = splitter.get("pretokenizers") or [{}]
    return (
        all(each.get("type") == "Split" for each in further)
        and splitter.get("type") == "ByteLevel"
        and splitter.get("use_regex") is True
        and splitter.get("add_prefix_space") is False
        and data.get("normalizer") is None
        and all(token.get("special") for token in data.get("added_tokens", ()))
    )


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in pieces of at least `size` characters, cut where it is exact; a short text is one piece."""
    start = 0
    while len(text) - start > size:
        cut = _CUT.search(text, start + size)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:] if start else text
