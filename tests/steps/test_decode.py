"""decode: valid text comes out whole, bad bytes are counted, garbage is quarantined."""

from __future__ import annotations

import codecs

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import QUARANTINE, Keys, bind, run_steps
from datapipe.steps.decode import decode_bytes

KEYS = Keys()


def raw_table(rows):
    return pa.table(
        {
            "row_id": pa.array([str(i) for i in range(len(rows))]),
            "raw": pa.array(rows, pa.large_binary()),
            "extra": pa.array(range(len(rows))),
        }
    )


def run(rows, **options):
    return run_steps(raw_table(rows), [bind("decode", options)], KEYS)


@pytest.mark.parametrize(
    ("data", "text", "bad"),
    [
        (b"", "", 0),
        (b"plain", "plain", 0),
        ("é中👩".encode(), "é中👩", 0),
        (codecs.BOM_UTF8 + b"mark", "mark", 0),
        (codecs.BOM_UTF8 * 2 + b"two", "\ufefftwo", 0),
        ("in\ufeffside".encode(), "in\ufeffside", 0),
        (codecs.BOM_UTF16_LE + "né中👩".encode("utf-16-le"), "né中👩", 0),
        (codecs.BOM_UTF16_BE + "né中👩".encode("utf-16-be"), "né中👩", 0),
        (codecs.BOM_UTF32_LE + "né👩".encode("utf-32-le"), "né👩", 0),
        (codecs.BOM_UTF32_BE + "né👩".encode("utf-32-be"), "né👩", 0),
        (codecs.BOM_UTF16_LE + "odd tail".encode("utf-16-le") + b"x", "odd tail\ufffd", 1),
        (b"caf\xe9 " + b"x" * 20, "caf\ufffd " + "x" * 20, 1),
        (b"\xed\xa0\x80" + b"x" * 60, "\ufffd\ufffd\ufffd" + "x" * 60, 3),  # an encoded surrogate is not UTF-8
        (b"\xc0\xaf" + b"x" * 60, "\ufffd\ufffd" + "x" * 60, 2),  # an overlong slash
        (b"x" * 60 + b"\xf0\x9f\x91", "x" * 60 + "\ufffd", 3),  # cut inside a character: three bytes, one U+FFFD
        ("\ufffd".encode() + b"\xff" + b"x" * 60, "\ufffd\ufffd" + "x" * 60, 1),  # a real U+FFFD is not a bad byte
    ],
)
def test_golden(data, text, bad):
    """Text and bad bytes by hand, alone and beside a row that makes the whole column take the slow path."""
    assert decode_bytes(data) == (text, bad)
    for rows in ([data], [b"ok", data, b"\xff" + b"y" * 90]):
        table = run(rows).table
        place = rows.index(data)
        assert table["text"][place].as_py() == text
        assert table["bad_bytes"][place].as_py() == bad


def test_columns():
    """`text: large_string` in the place of `raw`, `bad_bytes: int32` last, other columns as they were."""
    table = run([b"a", b"b"]).table
    assert table.column_names == ["row_id", "text", "extra", "bad_bytes"]
    assert table.schema.field("text").type == pa.large_string()
    assert table.schema.field("bad_bytes").type == pa.int32()


@pytest.mark.parametrize(("bad", "kept"), [(9, True), (10, True), (11, False)])
@pytest.mark.parametrize("byte", [b"\xff", b"\0"])
def test_ratio_threshold(bad, kept, byte):
    """Of 100 bytes, 10 may be bad or NUL at the default ratio of 0.1; the 11th makes it no text."""
    ran = run([byte * bad + b"x" * (100 - bad)])
    assert (ran.table.num_rows == 1) is kept
    assert [(mark["kind"], mark["reason"]) for mark in ran.marked.to_pylist()] == (
        [] if kept else [("quarantine", "not_text")]
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01" + b"\0" * 57,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\xff\xfe\xfd",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\xc8\xe4\x02\0",
        b"\0" * 1000,
        "utf-16 without its mark".encode("utf-16-le"),
        bytes(range(256)) * 4,
    ],
)
def test_binary_is_quarantined(data):
    """Programs, pictures, archives, NULs: no text, and the rows beside them are unharmed."""
    ran = run([b"before", data, b"after"])
    assert ran.table["text"].to_pylist() == ["before", "after"]
    assert ran.marked.to_pylist() == [
        {"row_id": "1", "step": "decode", "kind": "quarantine", "reason": "not_text", "detail": None}
    ]


def test_errors_quarantine():
    """With errors="quarantine" a single bad byte is enough, and the reason says so; garbage stays not_text."""
    ran = run([b"good", b"x" * 99 + b"\xff", b"\xff" * 9], errors="quarantine")
    assert ran.table["text"].to_pylist() == ["good"]
    assert ran.marked["reason"].to_pylist() == ["bad_bytes", "not_text"]


def test_text_from_reader_passes():
    """A table with text keeps it, gets bad_bytes where it has none, and is judged by the same ratio where it has."""
    table = pa.table({"row_id": ["a", "b"], "text": ["\ufeffkept as read", "x" * 10]})
    ran = run_steps(table, [bind("decode")], KEYS)
    assert ran.table["text"].to_pylist() == ["\ufeffkept as read", "x" * 10]
    assert ran.table["bad_bytes"].to_pylist() == [0, 0]
    table = table.append_column("bad_bytes", pa.array([0, 9], pa.int32()))
    assert run_steps(table, [bind("decode")], KEYS).marked["row_id"].to_pylist() == ["b"]


def test_neither_column():
    """A table with nothing to decode is a mistake in the configuration, and the message lists what there is."""
    with pytest.raises(ConfigError, match="the table has row_id"):
        run_steps(pa.table({"row_id": ["a"]}), [bind("decode")], KEYS)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_utf8_round_trip(text):
    """Whatever is encoded as UTF-8 comes back, less one leading mark; nothing is bad."""
    assert decode_bytes(text.encode()) == (text.removeprefix("\ufeff"), 0)


@given(st.lists(st.binary(max_size=40), max_size=8))
@settings(deadline=None)
def test_bytes_accounted(rows):
    """For any bytes: the fast and the slow path agree, bad bytes lie in 0..len, and the text is valid."""
    result = bind("decode")(raw_table(rows), KEYS)
    result.validate(full=True)
    assert list(zip(result["text"].to_pylist(), result["bad_bytes"].to_pylist(), strict=True)) == [
        decode_bytes(row) for row in rows
    ]
    assert all(0 <= bad <= len(row) for bad, row in zip(result["bad_bytes"].to_pylist(), rows, strict=True))
    assert QUARANTINE not in result.column_names or len(rows) > 0
