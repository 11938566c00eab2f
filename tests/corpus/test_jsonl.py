"""JSON lines: any cut gives the same rows; bad lines cost themselves alone; long ones cost no memory."""

import gzip
import json
import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe.corpus import Piece, ReadOptions, SourceFile, discover, read_piece
from datapipe.storage import open_store

ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \t\r\n"])
LINES = st.one_of(
    st.text(max_size=30).map(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "replace")),
    st.sampled_from([b'{"text": null}', b"nope", b"[]", b"", b"   ", b'{"text": "\xff\xfe"}', b"\xe6\x97", b'"\r"']),
    st.integers(0, 400).map(lambda n: json.dumps({"text": "long " * n}).encode()),
)


def file_of(data, store_name):
    store = open_store(f"memory://{store_name}")
    entry = store.put("x.jsonl", data)
    return SourceFile(
        root=f"memory://{store_name}", path="x.jsonl", name="x", format="jsonl", size=len(data), etag=entry.etag
    )


def rows_of(pieces, options):
    rows, quarantined = [], []
    for piece in pieces:
        for batch in read_piece(piece, options=options):
            rows += batch.table.to_pylist()
            quarantined += batch.quarantined
    return rows, quarantined


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lines=st.lists(st.tuples(LINES, ENDS), max_size=12),
    last=st.one_of(st.just(b""), LINES),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
    max_row=st.sampled_from([20, 300, 1 << 20]),
)
def test_any_cut_gives_the_same_rows(lines, last, cuts, max_row):
    """Pieces of any cut (in the middle of a character, of a CRLF, of a giant line) join to the whole, ids included."""
    data = b"".join(line + end for line, end in lines) + last
    file = file_of(data, "any-cut")
    options = ReadOptions(max_row_bytes=max_row, max_batch_bytes=200)
    whole = rows_of([Piece(file=file)], options)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [Piece(file=file, start=a, end=b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    assert rows_of(pieces, options) == whole
    # And the whole is what a naive reading gives.
    position, expected = 0, []
    for line in data.split(b"\n"):
        if line.strip() or len(line) + 1 > max_row:
            expected.append(f"x:{position}")
        position += len(line) + 1
    if data.split(b"\n")[-1:] and expected and not data.endswith(b"\n"):
        tail = data.split(b"\n")[-1]
        if not tail.strip() and len(tail) <= max_row:
            expected = [e for e in expected if e != f"x:{len(data) - len(tail)}"]
    got = sorted([row["row_id"] for row in whole[0]] + [row.row_id for row in whole[1]])
    assert got == sorted(expected)


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_blocks_do_not_show(monkeypatch, block):
    """Lines are the same whatever the size of the blocks that they are read in."""
    data = '{"text": "ä"}\r\n\n{"text": "日本語"}\n{"text": "a\\nb"}\nbad\n{"text": "end"}'.encode()
    file = file_of(data, "blocks")
    expected = rows_of([Piece(file=file)], ReadOptions())
    monkeypatch.setattr("datapipe.corpus.jsonl.BLOCK", block)
    pieces = [Piece(file=file, start=i, end=min(len(data), i + 5)) for i in range(0, len(data), 5)]
    assert rows_of(pieces, ReadOptions()) == expected
    assert [row["text"] for row in expected[0]] == ["ä", "日本語", "a\nb", "end"]


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"nope", "invalid_json", ""),
        (b'{"text": "a"', "invalid_json", ""),
        (b"{'text': 'a'}", "invalid_json", ""),
        (b"[" * 100_000, "invalid_json", ""),
        (b'{"text": 1' + b"0" * 10_000 + b"}", "invalid_json", ""),
        (b'["text"]', "not_an_object", "array"),
        (b'"text"', "not_an_object", "string"),
        (b"null", "not_an_object", "null"),
        (b"true", "not_an_object", "boolean"),
        (b"{}", "missing_text", "it has nothing"),
        (b'{"body": "a"}', "missing_text", "it has 'body'"),
        (b'{"text": null}', "missing_text", "is null"),
        (b'{"text": 5}', "text_not_string", "number"),
        (b'{"text": ["a"]}', "text_not_string", "array"),
        (b'{"text": {"a": 1}}', "text_not_string", "object"),
    ],
)
def test_bad_lines(one, line, reason, detail):
    """Each kind of bad line has its own reason, its place and a beginning of what stood there; the rest is read."""
    good = b'{"text": "good"}\n'
    rows, quarantined = one("x.jsonl", good + line + b"\n" + good)
    assert [row["text"] for row in rows] == ["good", "good"]
    (bad,) = quarantined
    assert bad.reason == reason, bad
    assert detail in bad.detail
    assert bad.row_id == f"corpus/x.jsonl:{len(good)}"
    assert bad.excerpt == line[:200].decode()


@pytest.mark.parametrize(
    ("line", "text", "bad_bytes"),
    [
        (b'{"text": "a\xffb"}', "a\ufffdb", 1),
        (b'{"text": "\xe6\x97"}', "\ufffd", 2),
        (b'{"text": "\\ud83d\\ude00"}', "😀", 0),
        (b'{"text": "cut \\ud83d"}', "cut \ufffd", 1),
        (b'{"text": "\\ude00\\ud83d"}', "\ufffd\ufffd", 2),
        (b'{"text": "n", "score": NaN}', "n", 0),
        (b'{"text": "i", "score": -Infinity}', "i", 0),
        (b'\xef\xbb\xbf{"text": "bom"}', "bom", 0),
        (b'{"text": "first", "text": "last"}', "last", 0),
        (b'  {"text": ""}\r', "", 0),
        (b'{"text": "nul \\u0000"}', "nul \0", 0),
    ],
)
def test_what_people_write_all_the_same(one, line, text, bad_bytes):
    """Bytes that are no UTF-8, halves of surrogate pairs, NaN, byte order marks: read, and counted where replaced."""
    rows, quarantined = one("x.jsonl", line + b"\n")
    assert quarantined == []
    assert [(row["text"], row["bad_bytes"]) for row in rows] == [(text, bad_bytes)]


def test_columns_are_strings_or_json(one):
    """Carried fields have one type in every batch: a string as it is, anything else as JSON, null as null."""
    row = {"text": "t", "s": "é", "i": 3, "f": 1.5, "b": True, "l": [1, "ü"], "o": {"a": None}, "z": None}
    rows, _ = one("x.jsonl", json.dumps(row).encode(), columns=("s", "i", "f", "b", "l", "o", "z", "absent"))
    assert {key: rows[0][key] for key in ("s", "i", "f", "b", "l", "o", "z", "absent")} == {
        "s": "é", "i": "3", "f": "1.5", "b": "true", "l": '[1,"ü"]', "o": '{"a":null}', "z": None, "absent": None,
    }  # fmt: skip


@pytest.mark.parametrize("digits", [19, 20, 21, 60, 1000])
@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_long_integers_stay_as_they_are(one, digits, name):
    """Ids and carried values beyond 64 bits are not rounded, nested ones included: two ids never become one."""
    ids = ["9" * (digits - 1) + str(i) for i in range(3)]
    lines = "\n".join(f'{{"text":"t","id":{i},"user":-{i},"more":{{"x":[{i},0.5]}}}}' for i in ids)
    rows, quarantined = one(name, lines.encode(), id_column="id", columns=("user", "more"))
    assert quarantined == []
    assert [row["row_id"] for row in rows] == ids
    assert [row["user"] for row in rows] == [f"-{i}" for i in ids]
    assert [row["more"] for row in rows] == [f'{{"x":[{i},0.5]}}' for i in ids]


def test_long_integers_nested_too_deep(one):
    line = b'{"text":"t","id":' + b"[" * 1000 + b"1" * 25 + b"]" * 1000 + b"}"
    rows, quarantined = one("x.jsonl", line + b'\n{"text":"next","id":1}\n', id_column="id")
    assert [row["text"] for row in rows][-1] == "next"
    assert len(rows) + len(quarantined) == 2


def test_a_truncated_gzip(one):
    """The rows before the cut are given, then one quarantined row says where."""
    lines = [json.dumps({"text": f"{i} {os.urandom(40).hex()}"}).encode() + b"\n" for i in range(5000)]
    packed = gzip.compress(b"".join(lines))
    rows, quarantined = one("x.jsonl.gz", packed[: len(packed) // 2])
    assert 2000 < len(rows) < 3000
    assert [json.loads(lines[i])["text"] for i in range(len(rows))] == [row["text"] for row in rows]
    (bad,) = quarantined
    assert bad.reason == "truncated_file"
    position = int(bad.row_id.rpartition(":")[2])
    assert position >= sum(map(len, lines[: len(rows)]))


def test_gzip_members_and_padding(one):
    """Files joined of several gzip members, or padded with zeros as tar does, are whole."""
    data = gzip.compress(b'{"text": "a"}\n') + gzip.compress(b'{"text": "b"}\n') + b"\0" * 512
    rows, quarantined = one("x.jsonl.gz", data)
    assert [row["text"] for row in rows] == ["a", "b"]
    assert quarantined == []


def test_a_gzip_that_is_none(one):
    rows, quarantined = one("x.jsonl.gz", b'{"text": "plain"}\n')
    assert rows == []
    assert [q.reason for q in quarantined] == ["damaged_file"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_giant_line_costs_no_memory(tmp_path, name):
    """A line of 100 MB is passed over in a few MB of memory, and the rows around it are read."""
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) if name.endswith(".gz") else path.open("wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"text": "after"}\n')
    (source,) = discover(str(path)).files
    tracemalloc.start()
    try:
        rows, quarantined = rows_of([Piece(file=source)], ReadOptions(max_row_bytes=1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [row["text"] for row in rows] == ["before", "after"]
    assert [(q.row_id, q.reason) for q in quarantined] == [(f"{name}:19", "row_too_large")]
    assert quarantined[0].excerpt.startswith('{"text": "xxx')
    assert peak < 16 << 20


def test_a_bomb_costs_no_memory(tmp_path):
    """A file that expands a thousandfold is read in the memory of any other."""
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "bomb.jsonl.zst"
    with path.open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as file:
        for _ in range(200):
            file.write(b" " * (1 << 20))
        file.write(b'\n{"text": "after"}\n')
    assert path.stat().st_size < 100_000
    (source,) = discover(str(path)).files
    tracemalloc.start()
    try:
        rows, quarantined = rows_of([Piece(file=source)], ReadOptions(max_row_bytes=1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [row["text"] for row in rows] == ["after"]
    assert [q.reason for q in quarantined] == ["row_too_large"]
    assert peak < 32 << 20
