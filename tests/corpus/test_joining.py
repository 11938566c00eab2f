"""Joining batches loses, repeats and reorders nothing."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datapipe.corpus import Batch, Quarantined, joined

COUNTS = st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 2)), max_size=30)


def batch_of(number, raw, rows, bad):
    ids = [f"{number}:{i}" for i in range(rows)]
    column = pa.array([b"x"] * rows, pa.large_binary()) if raw else pa.array(["x"] * rows, pa.large_string())
    table = pa.table({"row_id": pa.array(ids, pa.string()), "raw" if raw else "text": column})
    lost = tuple(Quarantined(row_id=f"{number}:bad{i}", reason="r", detail="") for i in range(bad))
    return Batch(table=table, quarantined=lost)


@given(COUNTS, st.integers(1, 400))
def test_rows_and_reasons_stay(counts, max_bytes):
    """Every row and every quarantined row is there once, in order, in batches of one kind within the bound."""
    batches = [batch_of(number, *each) for number, each in enumerate(counts)]
    out = list(joined(batches, max_bytes=max_bytes))
    assert [i for b in out for i in b.table["row_id"].to_pylist()] == [
        i for b in batches for i in b.table["row_id"].to_pylist()
    ]
    assert [q for b in out for q in b.quarantined] == [q for b in batches for q in b.quarantined]
    largest = max((b.table.nbytes for b in batches), default=0)
    assert all(b.table.nbytes <= max_bytes + largest for b in out)
    assert len(out) <= len(batches)


def test_many_documents_are_one_batch(corpus, reading):
    """A thousand small files are a handful of batches."""
    from itertools import chain

    from datapipe.corpus import Piece, read_piece

    found = corpus({f"{i:04}.txt": b"document" for i in range(300)})
    pieces = [Piece(file=file) for file in found.files]
    (batch,) = joined(chain.from_iterable(read_piece(piece) for piece in pieces))
    assert batch.table["row_id"].to_pylist() == [f"corpus/{i:04}.txt:0" for i in range(300)]
    assert batch.table["raw"].num_chunks == 1
