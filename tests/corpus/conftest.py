"""Corpora to read: files of every format, made of the same texts."""

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import settings

from datapipe.corpus import Piece, ReadOptions, discover, plan_splits, read_piece

# No example is too slow: how long one takes says what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def jsonl(rows):
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def separated(rows, delimiter):
    out = io.StringIO()
    writer = csv.DictWriter(out, ["id", "text", "n"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def parquet(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=4)
    return sink.getvalue().to_pybytes()


def ipc(rows, kind):
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows)
    with kind(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=4):
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


MAKERS = {
    "a.jsonl": jsonl,
    "a.ndjson.gz": lambda rows: gzip.compress(jsonl(rows)),
    "a.jsonl.zst": lambda rows: zstandard.compress(jsonl(rows)),
    "a.json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).encode(),
    "lines.json": jsonl,
    "a.json.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "a.csv": lambda rows: separated(rows, ","),
    "a.tsv.gz": lambda rows: gzip.compress(separated(rows, "\t")),
    "a.parquet": parquet,
    "a.arrow": lambda rows: ipc(rows, pa.ipc.new_file),
    "a.feather": lambda rows: ipc(rows, pa.ipc.new_stream),
}
"""File name → bytes of a file of that kind with the rows given ({id, text, n})."""


def rows_of(n):
    """Rows with what trips readers: quotes, newlines, separators, other scripts, an empty text."""
    odd = [
        'a "quoted", text',
        "two\nlines\r\nand\ttabs",
        "ä 日本 🦜",
        "",
        "{[brackets]}",
        "back\\slash",
        "\u2028 sep \x85",
    ]
    return [{"id": f"id-{i}", "text": f"{odd[i % len(odd)]}{' ' * (i % 3)}{i}", "n": i} for i in range(n)]


@pytest.fixture(params=list(MAKERS))
def kind(request):
    """The name of one kind of file with rows."""
    return request.param


def read(files, *, target_bytes=32 << 20, storage_options=None, **options):
    """(rows as dicts, quarantined, batches) of files, through splits of the size given."""
    batches = [
        batch
        for split in plan_splits(files, target_bytes=target_bytes, storage_options=storage_options)
        for piece in split.pieces
        for batch in read_piece(piece, options=ReadOptions(**options), storage_options=storage_options)
    ]
    for batch in batches:
        batch.table.validate(full=True)
        assert batch.table.num_rows or batch.quarantined, "a batch of nothing"
    rows = [row for batch in batches for row in batch.table.to_pylist()]
    return rows, [row for batch in batches for row in batch.quarantined], batches


@pytest.fixture
def reading():
    return read


@pytest.fixture
def corpus(tmp_path):
    """A folder "corpus"; call it with {name: bytes} to fill it, giving what `discover` finds in it."""

    def fill(files, **options):
        root = tmp_path / "corpus"
        for name, data in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return discover(str(root), **options)

    fill.root = tmp_path / "corpus"
    return fill


@pytest.fixture
def one(corpus, reading):
    """Read one file of the bytes given: (rows, quarantined)."""

    def read_one(name, data, *, target_bytes=32 << 20, **options):
        (file,) = corpus({name: data}).files
        rows, quarantined, _ = reading([file], target_bytes=target_bytes, **options)
        return rows, quarantined

    return read_one


@pytest.fixture
def makers():
    return MAKERS


@pytest.fixture
def some_rows():
    return rows_of


@pytest.fixture
def whole_piece():
    return lambda file: Piece(file=file)
