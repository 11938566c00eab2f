"""Parquet and Arrow: types of the text column, text that is no UTF-8, what is read and what is not."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.corpus import Piece, ReadOptions, discover, read_piece
from datapipe.corpus.columnar import row_group_sizes
from datapipe.storage import open_store


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(table, **options):
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=3)
    return sink.getvalue()


@pytest.fixture(params=["x.parquet", "x.arrow"])
def file_of(request):
    return request.param, parquet if request.param == "x.parquet" else arrow


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_kind_of_text(one, file_of, kind):
    name, make = file_of
    values = ["a", None, "é", ""]
    rows, quarantined = one(name, make(pa.table({"text": pa.array(values).cast(kind)})))
    assert [(row["row_id"], row["text"]) for row in rows] == [
        (f"corpus/{name}:0", "a"), (f"corpus/{name}:2", "é"), (f"corpus/{name}:3", ""),
    ]  # fmt: skip
    assert [(q.row_id, q.reason) for q in quarantined] == [(f"corpus/{name}:1", "missing_text")]


def test_views_are_carried(one, file_of):
    """Carried columns of kinds that Arrow cannot filter lose the same rows as the others."""
    name, make = file_of
    table = pa.table({"text": ["a", None, "c"], "url": pa.array(["x", "y", None]).cast(pa.string_view())})
    rows, _ = one(name, make(table), columns=("url",))
    assert [row["url"] for row in rows] == ["x", None]


def test_bytes_are_raw(one, file_of):
    """A column of bytes is handed on undecoded."""
    name, make = file_of
    rows, _ = one(name, make(pa.table({"text": pa.array([b"\xff\x00", b"ok"])})))
    assert [row["raw"] for row in rows] == [b"\xff\x00", b"ok"]
    assert "text" not in rows[0]


@pytest.mark.parametrize("column", [pa.array([1, 2]), pa.array([["a"], []]), pa.array([1.5, None])], ids=str)
def test_a_column_that_is_no_text(one, file_of, column):
    name, make = file_of
    rows, quarantined = one(name, make(pa.table({"text": column})))
    assert rows == []
    assert [q.reason for q in quarantined] == ["no_text_column"]
    assert "neither text nor bytes" in quarantined[0].detail


def test_a_column_of_nulls(one, file_of):
    name, make = file_of
    rows, quarantined = one(name, make(pa.table({"text": pa.nulls(3)})))
    assert rows == []
    assert [q.reason for q in quarantined] == ["missing_text"] * 3


def test_a_column_twice(one):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    rows, quarantined = one("x.arrow", arrow(table))
    assert rows == []
    assert [q.reason for q in quarantined] == ["no_text_column"]


def test_text_that_is_no_utf8(one, file_of):
    """A string column may hold any bytes: what leaves is valid, and what was replaced is counted."""
    name, make = file_of
    bad = pa.array([b"ok", b"caf\xe9", b"\xff\xfe"]).view(pa.string())
    rows, quarantined = one(name, make(pa.table({"text": bad})))
    assert quarantined == []
    assert [(row["text"], row["bad_bytes"]) for row in rows] == [("ok", 0), ("caf\ufffd", 1), ("\ufffd\ufffd", 2)]


def test_further_text_that_is_no_utf8(one, file_of):
    """Ids and carried columns are valid text too; one broken name does not cost its file."""
    name, make = file_of
    bad = pa.array([b"ok", b"caf\xe9", None]).view(pa.string())
    rows, quarantined = one(
        name, make(pa.table({"text": ["a", "b", "c"], "id": bad, "url": bad})), id_column="id", columns=("url",)
    )
    assert [(row["row_id"], row["url"]) for row in rows] == [("ok", "ok"), ("caf\ufffd", "caf\ufffd")]
    assert [q.reason for q in quarantined] == ["missing_id"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_dictionaries_of_text_that_is_no_utf8(one, kind):
    values = pa.array([b"ok", b"caf\xe9"])
    text = {pa.string(): values, pa.large_string(): values.cast(pa.large_binary()),
            pa.string_view(): values.cast(pa.binary_view())}[kind].view(kind)  # fmt: skip
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 1], pa.int8()), text)})
    rows, quarantined = one("x.arrow", arrow(table))
    assert [(row["text"], row["bad_bytes"]) for row in rows] == [("caf\ufffd", 1), ("ok", 0), ("caf\ufffd", 1)]
    assert [q.reason for q in quarantined] == ["missing_text"]


@pytest.mark.parametrize("column", ["text", "url"])
def test_indices_beyond_their_dictionary(one, column):
    """A damaged dictionary column is a damaged file, not a read of memory that is not its own."""
    sound = pa.array(["a", "b"])
    broken = pa.DictionaryArray.from_arrays(pa.array([0, 100_000_000], pa.int32()), pa.array(["a"]), safe=False)
    table = pa.table({"text": broken if column == "text" else sound, "url": broken if column == "url" else sound})
    rows, quarantined = one("x.arrow", arrow(table), columns=("url",))
    assert rows == []
    assert [q.reason for q in quarantined] == ["damaged_file"]


def test_a_dictionary_is_spelled_out_in_parts(corpus):
    """One long value that 5,000 rows share is never there 5,000 times at once."""
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int16()), ["x" * 1_000_000])})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    (file,) = corpus({"x.arrow": sink.getvalue()}).files
    before, rows = pa.total_allocated_bytes(), 0
    for batch in read_piece(Piece(file=file), options=ReadOptions(max_batch_bytes=8_000_000)):
        rows += batch.table.num_rows
        assert batch.table.nbytes < 20_000_000
        assert pa.total_allocated_bytes() - before < 100_000_000
    assert rows == 5000


def test_offsets_beyond_their_data(one):
    """Offsets that point outside of the text are a damaged file."""
    buffers = [None, pa.py_buffer(np.array([0, 90_000_000, 2], np.int32)), pa.py_buffer(b"ab")]
    rows, quarantined = one("x.arrow", arrow(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, buffers)})))
    assert rows == []
    assert [q.reason for q in quarantined] == ["damaged_file"]


def test_carried_columns_keep_their_type(corpus, reading, file_of):
    name, make = file_of
    table = pa.table({"text": ["a", "b"], "score": [1.5, None], "tags": [["x"], []]})
    _, _, batches = reading(corpus({name: make(table)}).files, columns=("score", "tags"))
    got = pa.concat_tables([batch.table for batch in batches])
    assert got["score"].to_pylist() == [1.5, None]
    assert got["tags"].to_pylist() == [["x"], []]
    assert got.schema.field("score").type == pa.float64()


def test_ids_of_every_kind(one, file_of):
    name, make = file_of
    table = pa.table({"text": ["a", "b", "c"], "id": [7, None, 9]})
    rows, quarantined = one(name, make(table), id_column="id")
    assert [row["row_id"] for row in rows] == ["7", "9"]
    assert [(q.row_id, q.reason) for q in quarantined] == [(f"corpus/{name}:1", "missing_id")]


def test_only_what_is_asked_for_is_read():
    """A column that nobody asked for costs no bytes, also from a remote store."""
    rng = np.random.default_rng(0)
    table = pa.table({"text": ["short"] * 1000, "image": [rng.bytes(5000) for _ in range(1000)]})
    store = open_store("memory://wide")
    store.put("x.parquet", parquet(table, row_group_size=100))
    (file,) = discover("memory://wide/x.parquet").files
    fetched = []
    fs = type(store._fs)
    original = fs.cat_file

    def counting(self, path, start=None, end=None, **kwargs):
        data = original(self, path, start=start, end=end, **kwargs)
        fetched.append(len(data))
        return data

    fs.cat_file = counting
    try:
        assert sum(batch.table.num_rows for batch in read_piece(Piece(file=file))) == 1000
    finally:
        fs.cat_file = original
    assert sum(fetched) < file.size / 3


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_compressed_arrow(one, compression):
    table = pa.table({"text": [f"row {i}" for i in range(10)]})
    rows, quarantined = one("x.arrow", arrow(table, compression=compression), target_bytes=1)
    assert [row["text"] for row in rows] == [f"row {i}" for i in range(10)]
    assert [row["row_id"] for row in rows] == [f"corpus/x.arrow:{i}" for i in range(10)]
    assert quarantined == []


def test_a_skewed_row_group_is_cut_by_its_rows(corpus, reading):
    """The average row says little: batches follow what rows really hold."""
    texts = ["s"] * 5000 + ["L" * 200_000] * 20 + ["s"] * 5000
    _, _, batches = reading(corpus({"x.parquet": parquet(pa.table({"text": texts}))}).files, max_batch_bytes=1 << 20)
    assert [text for batch in batches for text in batch.table["text"].to_pylist()] == texts
    for batch in batches:
        assert sum(map(len, batch.table["text"].to_pylist()[:-1])) <= 1 << 20


def test_row_groups_are_known_from_footers(tmp_path):
    store = open_store(str(tmp_path))
    table = pa.table({"text": [f"row {i}" for i in range(10)]})
    store.put("x.parquet", parquet(table, row_group_size=4))
    store.put("x.arrow", arrow(table))
    store.put("broken.parquet", b"PAR1" + b"\0" * 100 + b"PAR1")
    assert len(row_group_sizes(store, "x.parquet", "parquet")) == 3
    assert len(row_group_sizes(store, "x.arrow", "arrow")) == 4
    assert row_group_sizes(store, "broken.parquet", "parquet") is None


def test_an_empty_table(one, file_of):
    name, make = file_of
    assert one(name, make(pa.table({"text": pa.array([], pa.string())}))) == ([], [])


def test_batches_are_bounded_options(corpus):
    """max_batch_bytes=1 gives each row its own batch, empty rows aside."""
    (file,) = corpus({"x.parquet": parquet(pa.table({"text": ["aa", "bb", "cc"]}))}).files
    batches = list(read_piece(Piece(file=file), options=ReadOptions(max_batch_bytes=1)))
    assert [batch.table.num_rows for batch in batches] == [1, 1, 1]
