"""html_to_text: HTML rows become text, others pass untouched, failures are counted."""

from __future__ import annotations

import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps import Keys, bind, run_steps

PAGE = (
    "<html><head><title>T</title><style>p{color:red}</style></head><body><nav><a href='/'>Home</a></nav>"
    "<main><h1>Title</h1><p>First &amp; foremost.</p><p>Second.</p><script>alert(1)</script></main></body></html>"
)


def run(texts, kinds, **options):
    table = pa.table(
        {"row_id": [str(i) for i in range(len(texts))], "media_type": pa.array(kinds, pa.string()), "text": texts}
    )
    return run_steps(table, [bind("html_to_text", options)], Keys())


def test_golden():
    """Markup, scripts, styles and navigation go; entities are resolved; the media type says what it is now."""
    ran = run([PAGE], ["text/html"])
    assert ran.table["text"].to_pylist() == ["Title\n\nFirst & foremost.\n\nSecond."]
    assert ran.table["media_type"].to_pylist() == ["text/plain"]


@pytest.mark.parametrize(
    ("kind", "converted"),
    [
        ("text/html", True),
        ("TEXT/HTML", True),
        ("text/html; charset=utf-8", True),
        (" text/html ;x", True),
        ("application/xhtml+xml", True),
        ("text/plain", False),
        ("text/htmlx", False),
        ("", False),
        (None, False),
    ],
)
def test_media_types(kind, converted):
    """HTML by its media type, whatever its case and parameters; anything else passes byte for byte."""
    ran = run(["<p>x</p>", "<p>y</p>"], [kind, "text/markdown"])
    assert ran.table["text"].to_pylist() == ["x" if converted else "<p>x</p>", "<p>y</p>"]
    assert ran.table["media_type"].to_pylist() == ["text/plain" if converted else kind, "text/markdown"]


@pytest.mark.parametrize("page", ["", " \n", "<html></html>", "<script>var x = 1</script>", "<!-- only a comment -->"])
def test_nothing_left_is_dropped(page):
    """A page with no text is dropped as html_empty; an empty row that is not HTML is not this step's business."""
    ran = run([page, ""], ["text/html", "text/plain"])
    assert ran.marked.to_pylist() == [
        {"row_id": "0", "step": "html_to_text", "kind": "drop", "reason": "html_empty", "detail": None}
    ]
    assert ran.table["row_id"].to_pylist() == ["1"]


@pytest.mark.parametrize(
    ("page", "deep"),
    [
        ("<div>" * 1000 + "x" + "</div>" * 1000, False),
        ("<div>" * 1001 + "x", True),
        ("<DIV class='a'>" * 1001 + "x", True),
        ("<div>x</div>" * 3000, False),
        ("</div>" * 5000 + "<div>" * 1000 + "x", False),
        ("<divider>" * 3000 + "x", False),
    ],
)
def test_deep_nesting_is_not_searched_for_main_content(monkeypatch, page, deep):
    """Past 1,000 open <div> the heuristic, whose time is the square of the depth, is off and all text is kept."""
    import resiliparse.extract.html2text as module

    seen = []
    monkeypatch.setattr(module, "extract_plain_text", lambda html, **options: seen.append(options) or "x")
    run([page], ["text/html"], sandbox=False)
    assert seen[0]["main_content"] is not deep


def test_main_content_option():
    """Without main_content the navigation stays."""
    assert "Home" in run([PAGE], ["text/html"], main_content=False).table["text"][0].as_py()


def test_parser_failure_is_quarantined(monkeypatch):
    """A page that the parser refuses is quarantined as html_failed; the page after it comes through."""
    import resiliparse.extract.html2text as module

    real = module.extract_plain_text

    def refuse(html, **options):
        if "refuse me" in html:
            raise ValueError("no")
        return real(html, **options)

    monkeypatch.setattr(module, "extract_plain_text", refuse)
    ran = run(["<p>refuse me</p>", "<p>take me</p>"], ["text/html"] * 2, sandbox=False)
    assert ran.table["text"].to_pylist() == ["take me"]
    assert ran.marked.to_pylist() == [
        {"row_id": "0", "step": "html_to_text", "kind": "quarantine", "reason": "html_failed", "detail": None}
    ]


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 20_000 + "deep",
        "<p>a\0b</p>",
        "<p>&#xD800; &#0; &#x110000; &nosuch;</p>",
        "<" * 10_000,
        "<p " + "a=b " * 10_000 + ">x",
        "<table>" * 500 + "cell",
        "]]><![CDATA[ <svg><math><p>t</p>",
        "\ufeff<p>\u202ertl</p>",
    ],
    ids=["deep", "nul", "entities", "brackets", "attributes", "tables", "cdata", "bom"],
)
def test_hostile_pages(page):
    """Nesting, broken markup and impossible entities give valid text or a counted mark; never a crash."""
    ran = run([page], ["text/html"])
    assert ran.table.num_rows + ran.marked.num_rows == 1
    ran.table.validate(full=True)


def test_plain_tables_need_no_parser(monkeypatch):
    """Without HTML rows the parser is not even imported."""
    monkeypatch.setitem(sys.modules, "resiliparse.extract.html2text", None)
    assert run(["a < b"], ["text/plain"]).table["text"].to_pylist() == ["a < b"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_sandbox_changes_nothing(pages):
    """Whatever the pages, what comes out of the process is what comes out of the parser called here."""
    pages = [f"<p>{page}" for page in pages]
    inside, outside = (run(pages, ["text/html"] * len(pages), sandbox=sandbox) for sandbox in (True, False))
    assert inside.table.equals(outside.table)
    assert inside.marked.equals(outside.marked)


@pytest.mark.parametrize(
    ("page", "reason", "detail", "options"),
    [
        ("<p " + "".join(f"a{i}=b " for i in range(100_000)) + ">x", "html_timeout", "0.3 CPU", {"time_limit_s": 0.3}),
        ("<p>x <b>w</b></p>" * 2_000_000, "html_out_of_memory", "128 MiB", {"memory_limit": 128 << 20}),
    ],
    ids=["attributes", "memory"],
)
def test_an_offender_is_named(page, reason, detail, options):
    """A page beyond its time or memory is quarantined by name, markup and all; its neighbours have their text."""
    ran = run(["<p>before</p>", page, "<p>after</p>", "as it was"], ["text/html"] * 3 + ["text/plain"], **options)
    assert ran.table["text"].to_pylist() == ["before", "after", "as it was"]
    (marked,) = ran.marked.to_pylist()
    assert (marked["row_id"], marked["kind"], marked["reason"]) == ("1", "quarantine", reason)
    assert detail in marked["detail"]


@pytest.mark.parametrize("tag", ["div", "b", "span", "table", "font"])
def test_a_hundred_thousand_deep(tag):
    """Elements nested 100,000 deep have a text; the heuristic that would take hours is left out."""
    assert run([f"<{tag}>" * 100_000 + "deep"], ["text/html"]).table["text"].to_pylist() == ["deep"]


def test_a_page_of_100_mb():
    """Prose of 100 MB is a page like others."""
    ran = run(["<p>" + "word " * 20_000_000, "<p>x"], ["text/html"] * 2)
    assert [len(text) for text in ran.table["text"].to_pylist()] == [99_999_999, 1]


def test_slices_nulls_and_chunks():
    """Rows that are null, and tables that are slices or in pieces, are read at their own places."""
    texts = ["<p>a</p>", None, "plain", "<p>b</p>", "<p>c</p>"]
    kinds = ["text/html", "text/html", "text/plain", "text/html", "text/html"]
    table = pa.table({"row_id": list("01234"), "media_type": kinds, "text": pa.array(texts, pa.large_string())})
    step = bind("html_to_text")
    assert step(table, Keys())["text"].to_pylist() == ["a", "", "plain", "b", "c"]
    assert step(table.slice(2, 2), Keys())["text"].to_pylist() == ["plain", "b"]
    assert step(pa.concat_tables([table.slice(0, 3), table.slice(3)]), Keys())["text"].to_pylist()[3:] == ["b", "c"]


@pytest.mark.parametrize(
    ("text", "kind", "converted"),
    [
        ("<!DOCTYPE html><p>x", "text/plain", True),
        ("<html lang=en><p>x", None, True),
        (
            " \n<?xml version='1.0'?>\n<!-- a\n-- b -->\n<!-- --><!doctype  HTML PUBLIC ''><p>x",
            "text/plain",
            True,
        ),
        ("<html><p>x", "text/markdown", False),
        ("<htmlish>x", "text/plain", False),
        ("<p>x", "text/plain", False),
        ("How to write <html> by hand", "text/plain", False),
        ("", "text/plain", False),
    ],
)
def test_sniffing(text, kind, converted):
    """What begins as HTML does is HTML where that is asked for, and only text of no other type."""
    ran = run([text], [kind], sniff=True)
    assert ran.table["text"].to_pylist() == ["x" if converted else text]
    assert run([text], [kind]).table["text"].to_pylist() == [text]
