"""html_to_text: rows of an HTML media type become the text a reader would see; other rows pass.

What enters: `text` (markup) and `media_type`. What leaves: the same columns; a converted row's media type is
text/plain. Invariant: a row that is not HTML is unchanged, byte for byte; a page with no text is dropped with a reason,
one that the parser refuses is quarantined.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from datapipe.steps.columns import TEXT, column, mark, set_column
from datapipe.steps.html_extract import ALT_TEXTS, LINKS, LIST_BULLETS, MAIN_CONTENT, extract
from datapipe.steps.html_sandbox import CRASHED, MEMORY, TIMEOUT, sandbox
from datapipe.steps.html_sandbox import REFUSED as HTML_FAILED
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

HTML_EMPTY: Final = "html_empty"
HTML_TYPES: Final = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, kw_only=True)
class HtmlToTextOptions:
    """Options of html_to_text; they are resiliparse's `extract_plain_text` arguments of the same name.

    Attributes:
        main_content: keep the article, leave out navigation, footers and the like (a heuristic; not for pages that nest
            more than 1,000 <div>, of which all text is kept).
        list_bullets: mark list items.
        alt_texts: keep the alternative texts of images.
        links: keep link targets.
        sandbox: parse in a process of its own, so that a page which hangs, crashes or swells the parser is quarantined
            by name and harms no other.
        time_limit_s: CPU seconds for one page, in the sandbox. Ordinary pages take 1 ms for 24 kB.
        memory_limit: bytes that one page may make the sandbox grow by; a parsed page takes 10 to 20 times its size.
    """

    main_content: bool = True
    list_bullets: bool = True
    alt_texts: bool = False
    links: bool = False
    sandbox: bool = True
    time_limit_s: float = 10.0
    memory_limit: int = 1 << 30

    def __post_init__(self) -> None:
        in_range("html_to_text.time_limit_s", self.time_limit_s, 0.01, 86_400)
        in_range("html_to_text.memory_limit", self.memory_limit, 1 << 20)


def html_to_text(table: pa.Table, keys: Keys, *, options: HtmlToTextOptions) -> pa.Table:
    """Markup → text, for rows whose `media_type` is HTML.

    Args:
        table: `text: string`, `media_type: string`.
        keys: not used.
        options: see HtmlToTextOptions.

    Returns:
        The table; rows with no text are marked drop "html_empty"; quarantined are rows that the parser refused
        ("html_failed"), and those that ran out of time or memory or ended the sandbox's process ("html_timeout",
        "html_out_of_memory", "html_crashed").
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
    places = pc.indices_nonzero(is_html).to_pylist()
    texts: list[Any] = text.to_pylist()
    dropped: list[str | None] = [None] * len(texts)
    failed: list[str | None] = [None] * len(texts)
    for place, result in zip(places, _extracted([texts[place] or "" for place in places], options), strict=True):
        if isinstance(result, str):
            failed[place] = result
            continue
        texts[place] = result
        if not result.strip():
            dropped[place] = HTML_EMPTY
    table = set_column(table, TEXT, pa.array(texts, pa.large_string()))
    table = set_column(table, "media_type", pc.if_else(is_html, "text/plain", kinds))
    table = mark(table, pa.array(dropped, pa.string()))
    return mark(table, pa.array(failed, pa.string()), quarantine=True)


def _extracted(pages: list[str], options: HtmlToTextOptions) -> list[bytes | str]:
    """Each page's text as UTF-8, or the reason why there is none."""
    wanted = (
        options.main_content * MAIN_CONTENT
        + options.list_bullets * LIST_BULLETS
        + options.alt_texts * ALT_TEXTS
        + options.links * LINKS
    )
    if options.sandbox:
        views = [memoryview(page.encode()) for page in pages]
        return sandbox(options.time_limit_s, options.memory_limit).extract(views, wanted)
    found: list[bytes | str] = []
    for page in pages:
        try:
            found.append(extract(page, wanted))
        except Exception:
            found.append(HTML_FAILED)
    return found


def build(options: HtmlToTextOptions) -> Step:
    """The step with its options bound."""
    return partial(html_to_text, options=options)


SPEC: Final = StepSpec(
    name="html_to_text",
    version=2,
    kind="map",
    options=HtmlToTextOptions,
    build=build,
    summary="HTML rows → the text a reader sees (resiliparse, main content)",
    reasons=(HTML_EMPTY, HTML_FAILED, TIMEOUT, MEMORY, CRASHED),
    needs=("text", "media_type"),
    gives=("text", "media_type"),
)
