"""Which bytes are read for a row group, near and far, and that they are enough."""

import threading
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe import open_dataset
from datapipe.dataset.byte_ranges import ByteRanges, coalesce
from datapipe.errors import IntegrityError
from datapipe.storage import open_store
from datapipe.storage.local import LocalStore
from datapipe.storage.remote import RemoteStore

N = 300


def every_kind(rng):
    """A column of each layout that Arrow IPC has."""
    n = N
    ints = rng.integers(0, 100, n)
    words = [f"w{i}" * (i % 5) for i in ints]
    nulls = rng.random(n) < 0.2
    return pa.table(
        {
            "i": pa.array(ints, pa.int32(), mask=nulls),
            "b": pa.array(ints % 2 == 0),
            "none": pa.nulls(n),
            "s": pa.array(words, pa.string(), mask=nulls),
            "ls": pa.array(words, pa.large_string()),
            "bin": pa.array([w.encode() for w in words]),
            "fb": pa.array([b"abcd"] * n, pa.binary(4)),
            "dec": pa.array(ints.tolist()).cast(pa.decimal128(30, 2)),
            "t": pa.array(ints, pa.timestamp("us")),
            "l": pa.array([list(range(i % 4)) for i in ints], pa.list_(pa.int16())),
            "ll": pa.array([[w] for w in words], pa.large_list(pa.string())),
            "fl": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(3 * n)), 3),
            "st": pa.array([{"x": int(i), "y": {"z": w}} for i, w in zip(ints, words, strict=True)]),
            "m": pa.array([[(w, int(i))] for i, w in zip(ints, words, strict=True)], pa.map_(pa.string(), pa.int8())),
            "cat": pa.array(words).dictionary_encode(),
            "last": pa.array(ints),
        }
    )


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_far_arrow_files_give_any_column_alone(compression, monkeypatch):
    """Each column, and each pair of neighbours, comes out of a remote Arrow file as it went in."""
    monkeypatch.setattr(RemoteStore, "gap", 16)  # so that nothing is read by chance
    table = every_kind(np.random.default_rng(0))
    url = f"memory://{uuid.uuid4().hex}"
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=100)
    open_store(url).put("x.arrow", sink.getvalue().to_pybytes())
    names = table.column_names
    for wanted in [[n] for n in names] + [list(p) for p in zip(names, names[1:], strict=False)] + [names, names[::-1]]:
        dataset = open_dataset(url, columns=wanted)
        got = dataset.fetch(1).decode()
        assert got.combine_chunks().equals(table.select(wanted).slice(100, 100).combine_chunks()), wanted


def test_far_arrow_files_give_only_what_is_asked(monkeypatch):
    """Of a wide file, the bytes of one column, and a layout that is not known comes whole."""
    monkeypatch.setattr(RemoteStore, "gap", 16)
    wide = pa.table({f"c{i}": np.arange(1000) for i in range(50)})
    views = wide.append_column("v", pa.array(["x" * 20] * 1000, pa.string_view()))
    for table, share in ((wide, 0.1), (views, 1.1)):
        url = f"memory://{uuid.uuid4().hex}"
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        data = sink.getvalue().to_pybytes()
        open_store(url).put("x.arrow", data)
        fetched = open_dataset(url, columns=["c7"]).fetch(0)
        assert fetched.nbytes <= share * len(data)
        assert share < 1 or fetched.nbytes >= 0.9 * len(data)
        assert fetched.decode()["c7"].to_pylist() == list(range(1000))


@pytest.fixture
def far(tmp_path, monkeypatch):
    """A remote folder of two Parquet files of 40 columns, and the ranges that are read of it."""
    table = pa.table({f"c{i}": np.random.default_rng(i).random(4000) for i in range(40)})
    url = f"memory://{uuid.uuid4().hex}"
    store = open_store(url)
    for i in range(2):
        pq.write_table(table, tmp_path / "x", row_group_size=1000)
        store.put(f"{i}.parquet", (tmp_path / "x").read_bytes())
    read = []
    ranges = RemoteStore.read_ranges
    monkeypatch.setattr(
        RemoteStore, "read_ranges", lambda self, p, r, e=None: (read.append((p, list(r))), ranges(self, p, r, e))[1]
    )
    return url, table, read


def test_far_parquet_files_are_read_by_column(far, monkeypatch):
    """One column is one range, two apart are two in one call, neighbours one; the footer is read once."""
    url, table, read = far
    monkeypatch.setattr(RemoteStore, "gap", 1000)
    for wanted, count in ((["c3"], 1), (["c3", "c30"], 2), (["c3", "c4", "c5"], 1), (table.column_names, 1)):
        dataset = open_dataset(url, columns=wanted)
        footers = len(read)
        for block in range(8):
            fetched = dataset.fetch(block)
            assert fetched.decode().equals(table.select(wanted).slice(block % 4 * 1000, 1000).combine_chunks())
            assert len(read[-1][1]) == count
            assert fetched.nbytes <= len(wanted) * 9000 * 1.2
        assert len(read) == footers + 8
        assert all(file == f"{block // 4}.parquet" for block, (file, _) in enumerate(read[footers:]))
        read.clear()


def test_parquet_is_decoded_without_another_thread_coming_into_python(tmp_path, monkeypatch):
    """Arrow takes the fetched bytes on the thread that decodes: one of its own might outlive the interpreter."""
    columns = {f"c{i}": np.arange(5000) for i in range(4)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    monkeypatch.setattr(LocalStore, "gap", 0)
    data, threads, read = open_dataset(tmp_path, columns=["c0", "c3"]), set(), ByteRanges.read

    def noted(self, n=-1):
        threads.add(threading.get_ident())
        return read(self, n)

    monkeypatch.setattr(ByteRanges, "read", noted)
    assert data.fetch(0).decode().num_rows == 5000
    assert threads == {threading.get_ident()}
    whole = open_dataset(tmp_path).fetch(0)
    threads.clear()
    assert whole.decode().equals(pa.table(columns))
    assert not threads, "of one part nothing is asked of the interpreter"


def test_a_part_that_ends_too_soon_is_an_error(tmp_path):
    """Where the bytes at hand are fewer than the footer says, Arrow is told so, and reads nothing past them."""
    pq.write_table(pa.table({"a": np.arange(5000)}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    meta = pq.read_metadata(tmp_path / "a.parquet")
    for end in (5, 100, 20_000):
        part = ByteRanges(len(whole), [(4, memoryview(whole)[4:end])]).opened()
        with pytest.raises((OSError, pa.ArrowException)):
            pq.ParquetFile(part, metadata=meta).read_row_group(0)
    assert pq.ParquetFile(ByteRanges(len(whole), [(4, memoryview(whole)[4:])]).opened(), metadata=meta).read().num_rows


def test_the_gap_decides_what_is_read_past(far, monkeypatch):
    """The same bytes out of fewer ranges where asking costs more."""
    url, _, read = far
    monkeypatch.setattr(RemoteStore, "gap", 1 << 20)
    open_dataset(url, columns=["c3", "c30"]).fetch(0).decode()
    assert len(read[-1][1]) == 1


def test_a_footer_is_read_by_one_thread(far):
    """Many threads that need a shard at once wait for one of them to read its footer."""
    url, _, read = far
    dataset = open_dataset(url, columns=["c0"])
    dataset._shards._footers._start()  # forget those that the index was made of
    read.clear()
    start = threading.Barrier(8)

    def fetch(block):
        start.wait(20)
        dataset.fetch(block)

    threads = [threading.Thread(target=fetch, args=(b,)) for b in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sizes = {e.path: e.size for e in open_store(url).list()}
    tails = [p for p, ranges in read if ranges[0][1] == sizes[p]]
    assert sorted(tails) == ["0.parquet", "1.parquet"]


def test_footers_are_let_go(far, monkeypatch):
    """Memory for footers is bounded; one that was let go is read again."""
    url, table, _ = far
    monkeypatch.setattr("datapipe.dataset.footers.MOST_BYTES", 1)
    dataset = open_dataset(url, columns=["c1"])
    assert len(dataset._shards._footers._held) == 1
    for block in (0, 7, 1, 6):
        assert dataset.fetch(block).decode().equals(table.select(["c1"]).slice(block % 4 * 1000, 1000).combine_chunks())
        assert len(dataset._shards._footers._held) == 1


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_file_replaced_under_the_reader(tmp_path, suffix):
    """Its rows are those of the file that was opened, or an error that says so; never another file's."""

    def write(offset):
        table = pa.table({"n": np.arange(1000) + offset})
        beside = tmp_path / f"beside.{suffix}.tmp"
        if suffix == "parquet":
            pq.write_table(table, beside, row_group_size=100)
        else:
            with pa.ipc.new_file(str(beside), table.schema) as writer:
                writer.write_table(table, max_chunksize=100)
        beside.replace(tmp_path / f"x.{suffix}")

    write(0)
    dataset = open_dataset(tmp_path)
    assert dataset.fetch(0).decode()["n"][0].as_py() == 0
    write(5000)
    if suffix == "arrow":  # the map is still of the file that was opened
        assert dataset.fetch(3).decode()["n"][0].as_py() == 300
    else:
        with pytest.raises(IntegrityError, match="replaced"):
            dataset.fetch(3).decode()


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 50)).map(lambda p: (p[0], p[0] + p[1])), max_size=20),
    st.integers(0, 100),
)
@settings(deadline=None)
def test_coalesced_ranges(spans, gap):
    """They cover every span, lie further apart than the gap, and begin and end where spans do."""
    joined = coalesce(spans, gap)
    assert all(any(a <= s and e <= b for a, b in joined) for s, e in spans)
    assert all(b[0] - a[1] > gap for a, b in zip(joined, joined[1:], strict=False))
    assert {a for a, _ in joined} <= {s for s, _ in spans}
    assert {b for _, b in joined} <= {e for _, e in spans}


def test_byte_ranges_do_not_make_up_what_they_lack():
    file = ByteRanges(100, [(50, memoryview(b"x" * 10)), (10, memoryview(b"abcde"))])
    file.seek(11)
    assert bytes(file.read(3)) == b"bcd"
    for at, n in ((14, 2), (0, 1), (60, 1), (49, 2), (58, 3)):
        file.seek(at)
        with pytest.raises(OSError, match="not fetched"):
            file.read(n)
