"""html_to_text: rows of an HTML media type become the text a reader would see; other rows pass.

What enters: `text` (markup) and `media_type`. What leaves: the same columns; a converted row's media type is
text/plain. Invariant: a row that is not HTML is unchanged, byte for byte; a page with no text is dropped with a reason,
one that the parser refuses is quarantined.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.steps.columns import TEXT, column, mark, set_column
from datapipe.steps.html_extract import ALT_TEXTS, LINKS, LIST_BULLETS, MAIN_CONTENT, extract
from datapipe.steps.html_sandbox import CRASHED, MEMORY, TIMEOUT, sandbox
from datapipe.steps.html_sandbox import REFUSED as HTML_FAILED
from datapipe.steps.options import in_range
from datapipe.steps.step import DETAIL, StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

HTML_EMPTY: Final = "html_empty"
_LOOKS_LIKE_HTML: Final = r"(?i)\A\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?s:.*?)-->\s*)*<(?:!doctype\s+html|html)[\s>]"
"""How a document begins that browsers take for HTML whatever it is called (WHATWG MIME Sniffing, section 7.1); of their
signatures only the two that no other text begins with."""
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
        sniff: take text/plain that begins as HTML does ("<!doctype html", "<html") for HTML; rows of jsonl and Parquet
            have no media type of their own.
        sandbox: parse in a process of its own, so that a page which hangs, crashes or swells the parser is quarantined
            by name and harms no other.
        time_limit_s: CPU seconds for one page, in the sandbox. Ordinary pages take 1 ms for 24 kB.
        memory_limit: bytes that one page may make the sandbox grow by; a parsed page takes 10 to 20 times its size.
    """

    main_content: bool = True
    list_bullets: bool = True
    alt_texts: bool = False
    links: bool = False
    sniff: bool = False
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
        "html_out_of_memory", "html_crashed"), with their markup as it was.
    """
    del keys
    import pyarrow as pa
    import pyarrow.compute as pc

    kinds = column(table, "media_type", pa.string())
    # "text/html; charset=utf-8" is text/html
    bare = pc.utf8_lower(pc.utf8_trim_whitespace(pc.replace_substring_regex(kinds, ";.*", "")))
    is_html = pc.fill_null(pc.is_in(bare, pa.array(HTML_TYPES)), False)
    text = column(table, TEXT, pa.large_string())
    if options.sniff:
        plain = pc.is_in(pc.fill_null(bare, ""), pa.array(["", "text/plain"]))
        begins = pc.fill_null(pc.match_substring_regex(text, _LOOKS_LIKE_HTML), False)
        is_html = pc.or_(is_html, pc.and_(plain, begins))
    if not pc.any(is_html).as_py():
        # The types are those of a batch with HTML, so that batches concatenate.
        return set_column(set_column(table, TEXT, text), "media_type", kinds)
    is_html = is_html.combine_chunks()
    markup = _one_array(pc.fill_null(text.filter(is_html), ""))
    found = _extracted(markup, options)
    good = pa.array([isinstance(each, bytes) for each in found], pa.bool_())
    # Encoded by Python, so it is UTF-8: no second check, and no str is made of it.
    texts = pa.array([each if isinstance(each, bytes) else b"" for each in found], pa.large_binary())
    texts = pc.if_else(good, texts.view(pa.large_string()), markup)
    blank = pc.and_(good, pc.invert(pc.match_substring_regex(texts, r"[^\s]")))

    def spread(values: list[str | None]) -> pa.Array:
        """What HTML rows have, at their places; null elsewhere."""
        return pc.replace_with_mask(pa.nulls(table.num_rows, pa.string()), is_html, pa.array(values, pa.string()))

    failed = [each if isinstance(each, str) else None for each in found]
    table = set_column(table, TEXT, pc.replace_with_mask(_one_array(text), is_html, texts))
    table = set_column(table, "media_type", pc.if_else(is_html, "text/plain", kinds))
    table = mark(table, spread([HTML_EMPTY if each else None for each in blank.to_pylist()]))
    if any(failed):
        table = mark(table, spread(failed), quarantine=True)
        table = set_column(table, DETAIL, spread([_detail(each, options) for each in failed]))
    return table


def _extracted(markup: pa.LargeStringArray, options: HtmlToTextOptions) -> list[bytes | str]:
    """Each page's text as UTF-8, or the reason why there is none."""
    import numpy as np

    wanted = (
        options.main_content * MAIN_CONTENT
        + options.list_bullets * LIST_BULLETS
        + options.alt_texts * ALT_TEXTS
        + options.links * LINKS
    )
    if options.sandbox:
        # The pages' bytes go from Arrow's buffer into the pipe.
        _, offsets, data = markup.buffers()
        ends = np.frombuffer(offsets, np.int64)[markup.offset : markup.offset + len(markup) + 1].tolist()
        body = memoryview(data if data is not None else b"").cast("B")
        views = [body[start:end] for start, end in itertools.pairwise(ends)]
        return sandbox(options.time_limit_s, options.memory_limit).extract(views, wanted)
    found: list[bytes | str] = []
    for page in markup.to_pylist():
        try:
            found.append(extract(page, wanted))
        except Exception:
            found.append(HTML_FAILED)
    return found


def _detail(reason: str | None, options: HtmlToTextOptions) -> str | None:
    """What is known of a page that gave no text."""
    if reason == TIMEOUT:
        return f"more than {options.time_limit_s:g} CPU seconds"
    return f"more than {options.memory_limit >> 20:,} MiB" if reason == MEMORY else None


def _one_array(values: pa.ChunkedArray) -> pa.Array:
    """A chunked array as one array, without a copy where it is one already."""
    import pyarrow as pa

    if values.num_chunks == 1:
        return values.chunk(0)
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)


def build(options: HtmlToTextOptions) -> Step:
    """The step with its options bound."""
    return partial(html_to_text, options=options)


SPEC: Final = StepSpec(
    name="html_to_text",
    version=3,
    kind="map",
    options=HtmlToTextOptions,
    build=build,
    summary="HTML rows → the text a reader sees (resiliparse, main content)",
    reasons=(HTML_EMPTY, HTML_FAILED, TIMEOUT, MEMORY, CRASHED),
    needs=("text", "media_type"),
    gives=("text", "media_type"),
)
