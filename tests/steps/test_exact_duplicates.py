"""exact_duplicates: equal texts have equal hashes, others do not, and the hash is xxh3_128 everywhere."""

from __future__ import annotations

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.exact_duplicates import hash_records, hash_texts


def chunked(texts):
    return pa.chunked_array([pa.array(texts, pa.large_string())])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=10), st.integers(0, 10), st.integers(0, 10))
@settings(deadline=None)
def test_is_xxh3_128(texts, offset, size):
    """Each hash is xxh3_128 of the text's UTF-8 bytes, also in a slice and over several chunks."""
    expected = [xxhash.xxh3_128_digest(text.encode()) for text in texts]
    column = chunked(texts)
    assert hash_texts(column).to_pylist() == expected
    assert hash_texts(column.slice(offset, size)).to_pylist() == expected[offset : offset + size]
    pieces = pa.chunked_array([pa.array([text], pa.large_string()) for text in texts], pa.large_string())
    assert hash_texts(pieces).to_pylist() == expected


def test_golden_value():
    """A published test vector: xxh3_128 of nothing. The bytes on disk must never change silently."""
    assert hash_texts(chunked([""]))[0].as_py().hex() == "99aa06d3014798d86001c324468d497f"


@pytest.mark.parametrize(
    ("normalise", "same", "different"),
    [
        ("none", [("a b", "a b")], [("a b", "a  b"), ("a", "a "), ("a", "A"), ("", " ")]),
        (
            "whitespace",
            [("a b", " a\t\n\u00a0b "), ("", " \n")],
            [("ab", "a b"), ("a", "A"), ("a\u200bb", "ab")],
        ),
        (
            "casefold",
            [("Straße  X", "STRASSE x"), ("ΣΑΣ", "σας"), ("", "\n")],
            [("a", "b"), ("\u0131", "i")],
        ),
    ],
)
def test_what_counts_as_equal(normalise, same, different):
    """Each normalisation makes equal what it says, and no more."""
    for a, b in same:
        assert len(set(hash_texts(chunked([a, b]), normalise).to_pylist())) == 1, (a, b)
    for a, b in different:
        assert len(set(hash_texts(chunked([a, b]), normalise).to_pylist())) == 2, (a, b)


def test_marks_nothing():
    """The row half adds a column of 16 bytes and marks no row: which copy stays is decided over all of them."""
    table = pa.table({"row_id": ["a", "b"], "text": ["same", "same"]})
    ran = run_steps(table, [bind("exact_duplicates")], Keys())
    assert ran.marked.num_rows == 0
    assert ran.table.schema.field("content_hash").type == pa.binary(16)
    assert ran.table["text"].to_pylist() == ["same", "same"]


def test_unknown_normalisation():
    """A wrong choice names the nearest one."""
    with pytest.raises(ConfigError, match="did you mean 'casefold'"):
        bind("exact_duplicates", {"normalise": "case_fold"})


def test_records():
    """Records are equal where the named columns are: null is no empty text, and no two columns run together."""
    rows = [("a", "b", 1), ("a", "b", 2), ("ab", "", 1), ("a", None, 1), ("a", "", 1), (None, "a", 1)]
    table = pa.table(
        {
            "row_id": [str(i) for i in range(len(rows))],
            "x": [row[0] for row in rows],
            "y": [row[1] for row in rows],
            "n": [row[2] for row in rows],
        }
    )

    def hashes(columns, given=table):
        step = bind("exact_duplicates", {"columns": columns})
        return run_steps(given, [step], Keys()).table["content_hash"].to_pylist()

    assert len(set(hashes(["x", "y"]))) == 5
    assert hashes(["x", "y"])[0] == hashes(["x", "y"])[1]
    assert len(set(hashes(["*"]))) == 6
    assert hashes(["*"]) == hashes(["*"], table.select(["n", "y", "row_id", "x"])), "columns in another order"
    assert hashes(["n"]) == hashes(["n"], table.set_column(3, "n", table["n"].cast(pa.int8())))
    coded = table.set_column(1, "x", table["x"].combine_chunks().dictionary_encode())
    assert hashes(["x", "y"], coded) == hashes(["x", "y"])
    assert hashes(["x"], table.slice(0, 0)) == []


def test_records_golden():
    """The bytes on disk, with which later deliveries are compared."""
    table = pa.table({"row_id": ["r"], "x": ["a"], "y": pa.array([None], pa.int64())})
    inner = b"\1" + xxhash.xxh3_128_digest(b"a") + bytes(17)
    found = bind("exact_duplicates", {"columns": ["x", "y"]})(table, Keys())["content_hash"][0].as_py()
    assert found == xxhash.xxh3_128_digest(inner)


def test_records_that_cannot_be_compared():
    """A column that is not there or is no value, and "*" beside a name."""
    table = pa.table({"row_id": ["r"], "x": [[1]]})
    for columns in (["x"], ["y"]):
        with pytest.raises(ConfigError):
            run_steps(table, [bind("exact_duplicates", {"columns": columns})], Keys())
    with pytest.raises(ConfigError):
        bind("exact_duplicates", {"columns": ["*", "x"]})


def test_bytes_are_compared_as_they_are():
    """Of a column of bytes that are no text, equal values have one hash, whatever `normalise` says of texts."""
    values = [b"\xff\xfe A", b"\xff\xfe a", b"\xff\xfe A", None, b""]
    table = pa.table({"row_id": list("abcde"), "audio": pa.array(values, pa.binary())})
    hashes = hash_records(table, ("audio",), "casefold").to_pylist()
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 4
    assert (
        hashes
        == hash_records(table.set_column(1, "audio", table["audio"].cast(pa.large_binary())), ("audio",)).to_pylist()
    )
