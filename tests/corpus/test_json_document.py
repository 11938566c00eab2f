"""A .json file: an array, an object, or objects in a row, cut into values as the bytes come."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.corpus.byte_stream import ByteStream
from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.json_document import values_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a"\\[]{},: \n\u00e9日'), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\]}', max_size=4), inner, max_size=3),
    max_leaves=8,
)


def stream(data, block):
    """A stream that gives at most `block` bytes at a time."""
    at = 0

    def read(size):
        nonlocal at
        part = data[at : at + min(size, block)]
        at += len(part)
        return part

    return ByteStream(read)


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, max_size=6), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 9))
def test_arrays_are_cut_into_their_values(values, indent, ascii_only, block):
    """Whatever brackets and quotes strings hold, and wherever blocks end, an array's values come out whole."""
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    cut = list(values_of(stream(data, block), max_bytes=1 << 20))
    assert [json.loads(value) for value, _ in cut] == values
    assert all(size == len(value) for value, size in cut)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), max_size=5), st.sampled_from(["", "\n", " , "]))
def test_objects_in_a_row(values, joint):
    """Objects that follow one another, as in JSON lines that are called .json, are values too."""
    data = joint.join(json.dumps(value) for value in values).encode()
    assert [json.loads(value) for value, _ in values_of(stream(data, 5), max_bytes=1 << 20)] == values


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text('[]{}",\\ a1', max_size=60).map(str.encode), st.integers(1, 7))
def test_anything_ends(data, block):
    """Any bytes end in values or a fault, and blocks do not show in which."""

    def result(size):
        values = []
        try:
            values.extend(values_of(stream(data, size), max_bytes=40))
        except FileFault as fault:
            return values, fault.reason
        return values, None

    assert result(block) == result(1 << 20)


def test_one_object(one):
    rows, _ = one("x.json", b' \n{"text": "only", "more": [1, 2]}\n ')
    assert [(row["row_id"], row["text"]) for row in rows] == [("corpus/x.json:0", "only")]


def test_bad_values_cost_themselves_alone(one):
    data = b'[{"text": "a"}, nope, {"text": 5}, [1], {"text": "b",}, {"text": "c"}]'
    rows, quarantined = one("x.json", data)
    assert [(row["row_id"], row["text"]) for row in rows] == [("corpus/x.json:0", "a"), ("corpus/x.json:5", "c")]
    assert [(q.row_id[-1], q.reason) for q in quarantined] == [
        ("1", "invalid_json"), ("2", "text_not_string"), ("3", "not_an_object"), ("4", "invalid_json"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "texts", "reason"),
    [
        (b'[{"text": "a"}, {"text": "b', ["a"], "truncated_file"),
        (b'[{"text": "a"}', ["a"], "truncated_file"),
        (b'[{"text": "a"}] trailing', ["a"], "damaged_file"),
        (b'[{"text": "a"}}]', ["a"], "damaged_file"),
        (b'{"text": "a"}]', ["a"], "damaged_file"),
        (b'[{"text": "a\\', [], "truncated_file"),
    ],
)
def test_broken_files(one, data, texts, reason):
    rows, quarantined = one("x.json", data)
    assert [row["text"] for row in rows] == texts
    assert [q.reason for q in quarantined] == [reason]


def test_a_large_array_is_streamed(tmp_path):
    """An array of 60 MB is read in the memory of its values, not of the file."""
    import tracemalloc

    from datapipe.corpus import Piece, ReadOptions, discover, read_piece

    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.write(b"[")
        for i in range(600):
            file.write((b",\n" if i else b"") + json.dumps({"text": "y" * 100_000}).encode())
        file.write(b"]")
    (source,) = discover(str(path)).files
    count = 0
    tracemalloc.start()
    try:
        for batch in read_piece(Piece(file=source), options=ReadOptions(max_batch_bytes=1 << 20)):
            count += batch.table.num_rows
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 600
    assert peak < 20 << 20
