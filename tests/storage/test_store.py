"""The Store contract: one class, and every kind of store that can be written to is held to it."""

import io
import pickle
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError, IntegrityError, NotFoundError, StorageError
from datapipe.storage import Entry

ESCAPES = ["../x", "a/../../x", "/etc/passwd", "\\x", "..\\x", "C:\\x", "c:/x", "a\0b", "", "..", ".", "./a", "a/"]
DATA = bytes(range(256)) * 40


class TestConformance:
    def test_what_is_put_is_read(self, store):
        """A put object has its size, an etag, and exactly its bytes."""
        entry = store.put("a/b/c.bin", DATA)
        assert entry == store.info("a/b/c.bin")
        assert (entry.path, entry.size) == ("a/b/c.bin", len(DATA))
        assert entry.etag
        assert store.read("a/b/c.bin") == DATA

    @pytest.mark.parametrize("data", [b"", memoryview(b"xyz"), memoryview(bytearray(b"xyz"))[1:]])
    def test_puts_any_buffer(self, store, data):
        assert store.put("x", data).size == len(data)
        assert store.read("x") == bytes(data)

    @pytest.mark.parametrize("name", ["a b.txt", "ä/日本.txt", "100%.txt", "a+b=c&d.txt", "q#1.txt", "x.y.z"])
    def test_names_are_kept(self, store, name):
        """Spaces, percent signs, '#' and other scripts are parts of names like any other."""
        store.put(name, b"1")
        assert [entry.path for entry in store.list()] == [name]
        assert store.read(name) == b"1"

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(start=st.integers(0, 120), length=st.integers(0, 120), size=st.integers(0, 100))
    def test_ranges(self, store, start, length, size):
        """[start, end) of an object is exactly that, or an IntegrityError if it is not all there."""
        data = DATA[:size]
        store.put("r.bin", data)
        if start + length <= size:
            assert store.read("r.bin", start, start + length) == data[start : start + length]
        else:
            with pytest.raises(IntegrityError):
                store.read("r.bin", start, start + length)
        if start <= size:
            assert store.read("r.bin", start) == data[start:]

    @pytest.mark.parametrize(("start", "end"), [(-1, 3), (4, 3), (-2, None)])
    def test_ranges_that_are_none(self, store, start, end):
        store.put("r.bin", DATA)
        with pytest.raises(ConfigError):
            store.read("r.bin", start, end)

    def test_a_start_beyond_the_end(self, store):
        """Asking for the rest of an object from beyond its end is a fault, not an empty answer."""
        store.put("r.bin", b"12345")
        with pytest.raises(IntegrityError):
            store.read("r.bin", 6)

    def test_what_is_not_there(self, store):
        """Every way to read a missing object says NotFoundError; deleting it is no error."""
        store.put("folder/x", b"1")
        for path in ("nothing", "folder", "folder/x/y"):
            for action in (store.info, store.read, store.open, lambda p: store.read(p, 0, 4)):
                with pytest.raises(NotFoundError):
                    action(path)
            assert not store.exists(path)
        store.delete("nothing")
        assert store.exists("folder/x")

    def test_lists_sorted_and_below_a_folder(self, store):
        """A listing has every object below a folder once, by path; a prefix is a folder, not a string."""
        names = ["b", "a/z", "a/b/c", "a-1/x", "a.txt", "ab/x", "data/part-1", "data2/part-1"]
        for name in names:
            store.put(name, name.encode())
        assert [entry.path for entry in store.list()] == sorted(names)
        assert [entry.path for entry in store.list("a")] == ["a/b/c", "a/z"]
        assert [entry.path for entry in store.list("data/")] == ["data/part-1"]
        assert list(store.list("a.txt")) == []
        assert list(store.list("missing")) == []
        assert list(store.list("a")) == [store.info(path) for path in ("a/b/c", "a/z")]
        assert store.survey("a") == (list(store.list("a")), [])

    def test_a_new_object_has_a_new_etag(self, store):
        """Other bytes of the same length have another etag, and the listing is never behind."""
        before = store.put("x", b"old")
        assert list(store.list()) == [before]
        after = store.put("x", b"new")
        assert before.etag != after.etag
        assert list(store.list()) == [after] == [store.info("x")]
        assert store.read("x") == b"new"

    def test_delete(self, store):
        store.put("d/x", b"1")
        store.put("d/y", b"1")
        store.delete("d/x")
        assert [entry.path for entry in store.list()] == ["d/y"]
        with pytest.raises(NotFoundError):
            store.read("d/x")

    def test_a_write_on_condition(self, store):
        """Done where the object is as it was seen (or was not there), and else not."""
        assert store.put_if("a", b"1", None)
        assert not store.put_if("a", b"2", None)
        seen = store.info("a")
        assert store.put_if("a", b"33", seen)
        assert not store.put_if("a", b"4", seen)
        assert store.read("a") == b"33"

    def test_put_file(self, store, tmp_path):
        """A local file is put whole; one that is not there is a NotFoundError and puts nothing."""
        source = tmp_path / "source.bin"
        source.write_bytes(DATA)
        assert store.put_file("p/q.bin", str(source)).size == len(DATA)
        assert store.read("p/q.bin") == DATA
        with pytest.raises(NotFoundError):
            store.put_file("p/r.bin", str(tmp_path / "none"))
        assert [entry.path for entry in store.list()] == ["p/q.bin"]

    def test_open_is_seekable(self, store):
        """A reader seeks, tells and reads like a file, to its end and beyond."""
        store.put("o.bin", DATA)
        with store.open("o.bin") as file:
            assert file.seek(-10, io.SEEK_END) == len(DATA) - 10
            assert file.read() == DATA[-10:]
            assert file.read(1) == b""
            file.seek(100)
            assert file.read(50) == DATA[100:150]
            assert file.tell() == 150
            file.seek(len(DATA) + 5)
            assert file.read() == b""
            file.seek(0)
            assert file.read() == DATA
        store.put("empty", b"")
        with store.open("empty") as file:
            assert file.read() == b""

    def test_open_serves_arrow(self, store):
        """Parquet reads through `open`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"a": range(5000), "b": [f"row {i}" for i in range(5000)]})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=500)
        store.put("t.parquet", sink.getvalue().to_pybytes())
        with store.open("t.parquet") as file:
            assert pq.ParquetFile(file).read_row_group(3, columns=["b"])["b"][0].as_py() == "row 1500"

    @pytest.mark.parametrize("path", ESCAPES)
    def test_no_path_leaves_the_root(self, store, path, tmp_path):
        """'..', absolute paths, drives and NULs are refused by every operation, and nothing is written."""
        source = tmp_path / "s"
        source.write_bytes(b"1")
        for action in (
            store.info, store.read, store.open, store.delete, store.local_path, store.exists,
            lambda p: store.put(p, b"1"), lambda p: store.put_file(p, str(source)),
        ):  # fmt: skip
            if action == store.local_path and not hasattr(store, "_follow"):
                continue  # remote stores have no local paths
            with pytest.raises(ConfigError):
                action(path)
        assert list(store.list()) == []
        if path != "a/":
            with pytest.raises(ConfigError):
                list(store.list(path + "/x"))

    def test_readers_see_the_old_or_the_new(self, store):
        """While a writer replaces an object again and again, a reader gets one of its versions, never a mixture."""
        versions = [bytes([i]) * (20_000 + i * 1000) for i in range(6)]
        store.put("v", versions[0])
        done = threading.Event()
        faults = []

        def write():
            try:
                for i in range(60):
                    store.put("v", versions[i % 6])
            except Exception as error:
                faults.append(error)
            finally:
                done.set()

        writer = threading.Thread(target=write)
        writer.start()
        reads = 0
        while not done.is_set() or reads == 0:
            data = store.read("v")
            assert data in versions
            reads += 1
        writer.join()
        assert faults == []

    def test_writers_of_one_object(self, store):
        """Of several writers one wins whole."""
        versions = [bytes([i]) * 50_000 for i in range(4)]
        threads = [threading.Thread(target=store.put, args=("w", data)) for data in versions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.read("w") in versions
        assert [entry.path for entry in store.list()] == ["w"]

    def test_pickles(self, store):
        """A store goes to another process and finds the same objects."""
        entry = store.put("x", b"1")
        other = pickle.loads(pickle.dumps(store))
        assert list(other.list()) == [entry]
        assert other.url == store.url
        assert repr(other) == repr(store)

    def test_shared_by_threads(self, store):
        for i in range(8):
            store.put(f"{i}", bytes([i]) * 1000)
        results = {}

        def read(i):
            results[i] = [store.read(str(i)) for _ in range(5)]

        threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {i: [bytes([i]) * 1000] * 5 for i in range(8)}

    def test_errors_are_of_our_tree(self, store):
        """A caller need only know StorageError."""
        assert issubclass(NotFoundError, StorageError)
        with pytest.raises(StorageError, match="nothing"):
            store.read("nothing")

    def test_an_entry_is_plain(self, store):
        entry = store.put("x", b"1")
        assert type(entry) is Entry
        assert type(entry.size) is int
        assert type(entry.etag) is str
