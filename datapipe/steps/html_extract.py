"""One page of markup → the text a reader would see.

What enters: a page, what to keep. What leaves: text that UTF-8 can hold. Invariant: a page that nests too deep for the
main-content heuristic keeps all its text instead of taking time that grows with the square.
"""

from __future__ import annotations

import re
from typing import Final

MAX_DIV_DEPTH: Final = 1000
"""Beyond this depth of <div> in <div>, main content is not looked for: the parser's heuristic looks at every ancestor
of every <div>, so 20,000 of them in 100 kB take 4 s and time grows with the square. Browsers stop at 512 elements."""

_HEAD: Final = 1 << 13
_DIV_TAG: Final = re.compile(r"<(/?)div\b", re.IGNORECASE)

MAIN_CONTENT, LIST_BULLETS, ALT_TEXTS, LINKS = 1, 2, 4, 8
"""What to do, as bits: the four options of resiliparse's `extract_plain_text` that the step has."""


def extract(page: str, wanted: int) -> bytes:
    """The page's text, as UTF-8.

    Args:
        page: markup. wanted: bits, see MAIN_CONTENT.

    Raises:
        UnicodeEncodeError: an entity such as &#xD800; left a lone surrogate, which no UTF-8 holds.
        MemoryError, ValueError: the parser refused the page.
    """
    from resiliparse.extract.html2text import extract_plain_text

    text: str = extract_plain_text(
        page,
        main_content=bool(wanted & MAIN_CONTENT) and not nests_too_deep(page),
        list_bullets=bool(wanted & LIST_BULLETS),
        alt_texts=bool(wanted & ALT_TEXTS),
        links=bool(wanted & LINKS),
    )
    return text.encode()


def nests_too_deep(page: str) -> bool:
    """Whether <div> tags are open more than MAX_DIV_DEPTH deep at some place of the page."""
    # One search at memory speed spares nearly all pages the rest; each costs 2% of a page's parsing. Who writes tags in
    # capitals does it from the beginning, and who mixes them to evade this meets the limit of time.
    if page.count("<div") <= MAX_DIV_DEPTH and "<DIV" not in page[:_HEAD]:
        return False
    depth = 0
    for tag in _DIV_TAG.finditer(page):
        depth = depth + 1 if not tag[1] else max(0, depth - 1)
        if depth > MAX_DIV_DEPTH:
            return True
    return False
