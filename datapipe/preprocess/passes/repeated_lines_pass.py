"""repeated_lines, over the corpus: see `repeated_text_pass`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, final

from datapipe.preprocess.passes.repeated_text_pass import PieceCollector, RepeatedTextPass

LINES: Final = "lines"


@final
class LinesCollector(PieceCollector):
    """Hashes of lines."""

    step = "repeated_lines"


@final
class RepeatedLinesPass(RepeatedTextPass):
    """See `repeated_text_pass`."""

    step = "repeated_lines"
    kind = LINES
    internal = ("repeated_lines_hashes", "repeated_lines_numbers")
    collectors = MappingProxyType({LINES: LinesCollector})
    feeds = (("repeated_lines", "seen"),)


PASS: Final = RepeatedLinesPass()
