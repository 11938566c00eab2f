"""Comma- and tab-separated values: quoting, broken rows, broken quotes."""

import csv
import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.corpus import Piece, ReadOptions, SourceFile, discover, read_piece
from datapipe.storage import open_store

# csv itself cannot tell one empty field alone on a line from a blank line, so the id is never empty.
FIELDS = st.text(st.sampled_from('ab",;\n\t é日'), max_size=10)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(FIELDS, FIELDS), max_size=8), st.sampled_from(["csv", "tsv"]), st.sampled_from(["\n", "\r\n"])
)
def test_what_csv_writes_is_read(values, kind, end):
    """Whatever a field holds, quotes and newlines included, it comes out as Python's csv writer was given it."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter="," if kind == "csv" else "\t", lineterminator=end)
    writer.writerow(["id", "text", "more"])
    writer.writerows([f"{i}", text, more] for i, (text, more) in enumerate(values))
    data = out.getvalue().encode()
    store = open_store("memory://csv-law")
    entry = store.put(f"x.{kind}", data)
    file = SourceFile(root="memory://csv-law", path=f"x.{kind}", name="x", format=kind, size=len(data), etag=entry.etag)
    rows = []
    for batch in read_piece(Piece(file=file), options=ReadOptions(id_column="id", columns=("more",))):
        assert batch.quarantined == ()
        rows += [(row["row_id"], row["text"], row["more"]) for row in batch.table.to_pylist()]
    assert rows == [(f"{i}", text, more) for i, (text, more) in enumerate(values)]


def test_broken_rows_cost_themselves_alone(one):
    data = b'id,text\n1,a\n2\n3,b,c\n4,"x"y\n\n   \n5,d\n'
    rows, quarantined = one("x.csv", data)
    assert [(row["row_id"], row["text"]) for row in rows] == [("corpus/x.csv:0", "a"), ("corpus/x.csv:5", "d")]
    assert [(q.row_id, q.reason, q.excerpt) for q in quarantined] == [
        ("corpus/x.csv:1", "malformed_row", "2\n"),
        ("corpus/x.csv:2", "malformed_row", "3,b,c\n"),
        ("corpus/x.csv:3", "malformed_row", '4,"x"y\n'),
        ("corpus/x.csv:4", "malformed_row", "   \n"),
    ]


def test_bytes_that_are_no_utf8_are_counted(one):
    rows, _ = one("x.csv", b"\xef\xbb\xbftext,id\ncaf\xe9,1\nfine,2\n")
    assert [(row["text"], row["bad_bytes"]) for row in rows] == [("caf\ufffd", 1), ("fine", 0)]


def test_a_quote_that_is_never_closed(one):
    """It is given up at the bound, and reading goes on with the next line."""
    data = b'text\n"' + b"open\n" * 100 + b"last\n"
    rows, quarantined = one("x.csv", data, max_row_bytes=200)
    assert quarantined[0].reason == "row_too_large"
    assert "quote" in quarantined[0].detail
    assert rows[-1]["text"] == "last"
    rows, quarantined = one("x.csv", data)
    assert rows == []
    assert [q.reason for q in quarantined] == ["malformed_row"]


@pytest.mark.parametrize("data", [b"id,body\n1,a\n", b'"id,text\n'])
def test_a_header_without_the_text(one, data):
    rows, quarantined = one("x.csv", data)
    assert rows == []
    assert [q.reason for q in quarantined] in (["no_text_column"], ["malformed_row", "no_text_column"])


def test_a_header_that_repeats_names(one):
    """Which of two columns of one name is meant cannot be told: no text is no file, a carried one is null."""
    rows, quarantined = one("x.csv", b"text,text\nfirst,second\n")
    assert rows == []
    assert [q.reason for q in quarantined] == ["no_text_column"]
    rows, quarantined = one("x.csv", b"text,url,url\na,b,c\n", columns=("url",))
    assert [(row["text"], row["url"]) for row in rows] == [("a", None)]


def test_a_header_alone(one):
    assert one("x.csv", b"id,text\n") == ([], [])


def test_long_fields_are_read(one):
    """A field may be longer than csv's own limit of 128 KiB."""
    rows, quarantined = one("x.csv", b"text\n" + b"x" * 1_000_000 + b"\n")
    assert len(rows[0]["text"]) == 1_000_000
    assert quarantined == []


def test_a_giant_record_costs_no_memory(tmp_path):
    path = tmp_path / "x.csv"
    with path.open("wb") as file:
        file.write(b'text\n"')
        for _ in range(20):
            file.write((b"x" * 1023 + b"\n") * 1024)
        file.write(b'x"\nafter\n')
    (source,) = discover(str(path)).files
    rows, reasons = [], set()
    tracemalloc.start()
    try:
        for batch in read_piece(Piece(file=source), options=ReadOptions(max_row_bytes=1 << 20)):
            rows += batch.table["text"].to_pylist()[-1:]
            reasons |= {q.reason for q in batch.quarantined}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows[-1] == "after"
    assert "row_too_large" in reasons
    assert peak < 20 << 20
