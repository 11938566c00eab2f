"""Pictures in a column of Parquet: the layout of Hugging Face datasets, and bytes alone."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.corpus import Piece, ReadOptions, SourceFile, read_piece

ROWS = [{"bytes": b"abc", "path": "1.jpg"}, {"bytes": None, "path": "/etc/passwd"}, None, {"bytes": b"x" * 50}]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def read(tmp_path, table, **options):
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    file = SourceFile(root=str(tmp_path), path="a.parquet", name="a", format="parquet", size=9, etag="")
    chosen = ReadOptions(**{"text_column": None, "media": "image", "columns": ("*",), **options})
    batches = list(read_piece(Piece(file=file), options=chosen))
    bad = [(row.row_id, row.reason) for batch in batches for row in batch.quarantined]
    return pa.concat_tables([batch.table for batch in batches]), bad


@pytest.mark.parametrize("name", ["image", "img"])
def test_hugging_face_layout(tmp_path, name):
    """Bytes, path and label; a row that only names a file is quarantined, and so is one that is too large."""
    table = pa.table({name: pa.array(ROWS, STRUCT), "label": pa.array([3, 1, 2, 0]), "n": ["a", "b", "c", "d"]})
    found, bad = read(tmp_path, table, max_row_bytes=40)
    assert found.to_pylist() == [{"row_id": "a:0", "image": b"abc", "path": "1.jpg", "label": 3, "n": "a"}]
    assert found.schema.field("image").type == pa.large_binary()
    assert bad == [("a:1", "missing_media"), ("a:2", "missing_media"), ("a:3", "row_too_large")]


def test_bytes_alone_and_chosen_columns(tmp_path):
    """A column of bytes is taken where it is the only one; columns and ids are those asked for."""
    table = pa.table({"jpeg": [b"1", b"2"], "id": ["x", "y"], "more": [1, 2]})
    found, bad = read(tmp_path, table, columns=("more",), id_column="id")
    assert found.to_pylist() == [
        {"row_id": "x", "image": b"1", "path": None, "label": None, "more": 1},
        {"row_id": "y", "image": b"2", "path": None, "label": None, "more": 2},
    ]
    assert bad == []
    found, bad = read(tmp_path, table.append_column("b", pa.array([b"1", b"2"])))
    assert bad == [("a:0", "no_columns")]


@pytest.mark.parametrize(
    ("other", "path"), [([7, 8], "q"), ([[1], []], "q"), (pa.array(["x", "y"]).dictionary_encode(), "y")]
)
def test_a_column_called_path_that_holds_none(tmp_path, other, path):
    """A file is not given up for it: the path is the struct's own."""
    rows = [{"bytes": b"a", "path": "p"}, {"bytes": b"b", "path": "q"}]
    found, bad = read(tmp_path, pa.table({"image": pa.array(rows, STRUCT), "path": other}))
    assert (found.column("image").to_pylist(), bad) == ([b"a", b"b"], [])
    assert found.column("path")[1].as_py() == path
