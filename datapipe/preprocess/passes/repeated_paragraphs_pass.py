"""repeated_paragraphs, over the corpus: see `repeated_text_pass`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, final

from datapipe.preprocess.passes.repeated_text_pass import PieceCollector, RepeatedTextPass

PARAGRAPHS: Final = "paragraphs"


@final
class ParagraphsCollector(PieceCollector):
    """Hashes of paragraphs."""

    step = "repeated_paragraphs"


@final
class RepeatedParagraphsPass(RepeatedTextPass):
    """See `repeated_text_pass`."""

    step = "repeated_paragraphs"
    kind = PARAGRAPHS
    internal = ("repeated_paragraphs_hashes", "repeated_paragraphs_numbers")
    collectors = MappingProxyType({PARAGRAPHS: ParagraphsCollector})
    feeds = (("repeated_paragraphs", "seen"),)


PASS: Final = RepeatedParagraphsPass()
