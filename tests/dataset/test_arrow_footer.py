"""Arrow IPC files are indexed from their metadata: the rows stay where they are."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe import open_dataset
from datapipe.dataset.arrow_footer import SAMPLE, batch_summaries
from datapipe.errors import IntegrityError


def table(n):
    return pa.table(
        {
            "x": np.arange(n),
            "text": [f"row {i % 7}" * 3 for i in range(n)],
            "nested": [[{"a": i}] * (i % 3) for i in range(n)],
            "kind": pa.array([f"k{i % 3}" for i in range(n)]).dictionary_encode(),
        }
    )


def ipc(data, rows, compression=None):
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, data.schema, options=options) as writer:
        for batch in data.to_batches(max_chunksize=rows):
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size=-1):
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@given(n=st.integers(0, 300), rows=st.integers(1, 100))
def test_rows_are_those_that_pyarrow_reads(compression, n, rows):
    """For any cut, compressed or not; sizes are those of the decompressed buffers."""
    data = ipc(table(n), rows, compression)
    reader = pa.ipc.open_file(pa.BufferReader(data))
    batches = [reader.get_batch(b) for b in range(reader.num_record_batches)]
    found = batch_summaries(io.BytesIO(data))
    assert [batch.rows for batch in found] == [batch.num_rows for batch in batches]
    plain = batch_summaries(io.BytesIO(ipc(table(n), rows)))
    assert [batch.size for batch in found] == [batch.size for batch in plain]


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_little_of_a_large_batch_is_read(compression):
    noise = pa.table({"x": np.random.default_rng(0).integers(0, 1 << 62, 1 << 20)})
    file = Counting(ipc(noise, 1 << 20, compression))
    assert batch_summaries(file)[0].rows == 1 << 20
    assert file.taken < 3 * SAMPLE < len(file.getvalue()) / 10


@pytest.mark.parametrize("row", [0, 299_999])
def test_other_ends_have_another_fingerprint(tmp_path, row):
    """The first and the last values of a record batch are part of a bare folder's fingerprint."""
    found = set()
    for change in (0, 1):
        values = np.arange(300_000)
        values[row] += change
        (tmp_path / "f.arrow").write_bytes(ipc(pa.table({"x": values}), 300_000))
        found.add(open_dataset(str(tmp_path)).fingerprint)
    assert len(found) == 2


def test_damaged_metadata_is_an_error_of_ours(tmp_path):
    """A flipped bit anywhere: the file opens, or the error says that it is damaged; never another."""
    whole = ipc(table(50), 10, "zstd")
    random = np.random.default_rng(3)
    errors = 0
    for _ in range(400):
        data = bytearray(whole)
        data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        (tmp_path / "f.arrow").write_bytes(data)
        try:
            open_dataset(str(tmp_path))
        except IntegrityError:
            errors += 1
    assert errors > 0


def test_a_cut_file_is_refused():
    whole = ipc(table(50), 10)
    for keep in (0, 5, 9, 10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ValueError, match="cut short|does not end"):
            batch_summaries(io.BytesIO(whole[:keep]))
