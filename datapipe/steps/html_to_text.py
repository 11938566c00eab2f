"""html_to_text: rows of an HTML media type become the text a reader would see; other rows pass.

What enters: `text` (markup) and `media_type`. What leaves: the same columns; a converted row's media type is
text/plain. Invariant: a row that is not HTML is unchanged, byte for byte; a page with no text is dropped with a reason,
one that the parser refuses is quarantined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.steps.columns import TEXT, column, mark, set_column
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

HTML_EMPTY: Final = "html_empty"
HTML_FAILED: Final = "html_failed"
HTML_TYPES: Final = ("text/html", "application/xhtml+xml")

MAX_DIV_DEPTH: Final = 1000
"""Beyond this depth of <div> in <div>, main content is not looked for: the parser's heuristic looks at every ancestor
of every <div>, so 20,000 of them in 100 kB take 4 s and time grows with the square. Browsers stop at 512 elements."""

_DIV_TAG: Final = re.compile(r"<(/?)div\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class HtmlToTextOptions:
    """Options of html_to_text; they are resiliparse's `extract_plain_text` arguments of the same name.

    Attributes:
        main_content: keep the article, leave out navigation, footers and the like (a heuristic; not for pages that nest
            more than 1,000 <div>, of which all text is kept).
        list_bullets: mark list items.
        alt_texts: keep the alternative texts of images.
        links: keep link targets.
    """

    main_content: bool = True
    list_bullets: bool = True
    alt_texts: bool = False
    links: bool = False


def html_to_text(table: pa.Table, keys: Keys, *, options: HtmlToTextOptions) -> pa.Table:
    """Markup → text, for rows whose `media_type` is HTML.

    Args:
        table: `text: string`, `media_type: string`.
        keys: not used.
        options: see HtmlToTextOptions.

    Returns:
        The table; rows with no text are marked drop "html_empty", rows the parser refused quarantine "html_failed".
    """
    del keys
    import pyarrow as pa
    import pyarrow.compute as pc

    kinds = column(table, "media_type", pa.string())
    # "text/html; charset=utf-8" is text/html
    bare = pc.utf8_lower(pc.utf8_trim_whitespace(pc.replace_substring_regex(kinds, ";.*", "")))
    is_html = pc.fill_null(pc.is_in(bare, pa.array(HTML_TYPES)), False)
    text = column(table, TEXT, pa.large_string())
    if not pc.any(is_html).as_py():
        # The types are those of a batch with HTML, so that batches concatenate.
        return set_column(set_column(table, TEXT, text), "media_type", kinds)
    from resiliparse.extract.html2text import extract_plain_text

    texts = text.to_pylist()
    dropped: list[str | None] = [None] * len(texts)
    failed: list[str | None] = [None] * len(texts)
    for i in pc.indices_nonzero(is_html).to_pylist():
        try:
            page = texts[i] or ""
            extracted = extract_plain_text(
                page,
                main_content=options.main_content and not nests_too_deep(page),
                list_bullets=options.list_bullets,
                alt_texts=options.alt_texts,
                links=options.links,
            )
            extracted.encode()  # an entity such as &#xD800; can leave a lone surrogate, which no Arrow string holds
        except Exception:
            failed[i] = HTML_FAILED
            continue
        texts[i] = extracted
        if not extracted.strip():
            dropped[i] = HTML_EMPTY
    table = set_column(table, TEXT, pa.array(texts, pa.large_string()))
    table = set_column(table, "media_type", pc.if_else(is_html, "text/plain", kinds))
    table = mark(table, pa.array(dropped, pa.string()))
    return mark(table, pa.array(failed, pa.string()), quarantine=True)


def nests_too_deep(page: str) -> bool:
    """Whether <div> tags are open more than MAX_DIV_DEPTH deep at some place of the page."""
    if page.count("<") <= MAX_DIV_DEPTH:
        return False
    depth = 0
    for tag in _DIV_TAG.finditer(page):
        depth = depth + 1 if not tag[1] else max(0, depth - 1)
        if depth > MAX_DIV_DEPTH:
            return True
    return False


def build(options: HtmlToTextOptions) -> Step:
    """The step with its options bound."""
    return partial(html_to_text, options=options)


SPEC: Final = StepSpec(
    name="html_to_text",
    version=1,
    kind="map",
    options=HtmlToTextOptions,
    build=build,
    summary="HTML rows → the text a reader sees (resiliparse, main content)",
    reasons=(HTML_EMPTY, HTML_FAILED),
    needs=("text", "media_type"),
    gives=("text", "media_type"),
)
