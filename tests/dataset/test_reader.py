"""Opening datasets, with a manifest and without."""

import pickle
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe import open_dataset
from datapipe.dataset import build_manifest, publish, write_shard
from datapipe.errors import ConfigError, DatasetError, IntegrityError, ManifestError, NotFoundError, SchemaError
from datapipe.storage import open_store


def test_a_dataset_says_what_it_holds(made):
    folder, manifest = made
    ds = open_dataset(str(folder))
    assert len(ds) == ds.num_rows == 17
    assert ds.schema.names == ["row_id", "tokens", "n_tokens"]
    assert ds.fingerprint == manifest.fingerprint
    assert ds.manifest == manifest
    assert ds.index.rows.tolist() == [4, 4, 2, 4, 3]
    assert ds.index.tokens.tolist() == [16, 16, 8, 16, 12]
    assert [(g.group, g.rows) for g in ds.row_groups] == [(0, 4), (1, 4), (2, 2), (0, 4), (1, 3)]


def test_every_block_gives_its_rows_once_and_in_order(made):
    ds = open_dataset(str(made[0]))
    tables = [ds.fetch(b).decode() for b in range(len(ds.index))]
    assert [t.num_rows for t in tables] == ds.index.rows.tolist()
    assert pa.concat_tables(tables).column("row_id").to_pylist() == [f"doc:{i}" for i in range(17)]
    assert all(column.num_chunks == 1 for t in tables for column in t.columns)


def test_take_gives_rows_in_the_order_asked(made):
    ds = open_dataset(str(made[0]))
    asked = [5, 0, 7, 16, 5, 10]
    assert ds.take(asked).column("row_id").to_pylist() == [f"doc:{i}" for i in asked]
    assert ds.take([]).num_rows == 0


@pytest.mark.parametrize("bad", [[-1], [17], [0, 99]])
def test_take_refuses_a_row_that_is_not_there(made, bad):
    with pytest.raises(DatasetError, match="0 to 16"):
        open_dataset(str(made[0])).take(bad)


@pytest.mark.parametrize("bad", [[1.9], ["1"], [None], np.array([0.5]), [10**30]])
def test_take_refuses_what_is_no_row_number(made, bad):
    with pytest.raises(DatasetError, match="0 to 16"):
        open_dataset(str(made[0])).take(bad)


def test_take_accepts_every_kind_of_integer(made):
    ds = open_dataset(made[0])  # a Path
    for asked in (range(2), iter([0, 1]), np.array([0, 1], np.uint8), [np.int64(0), np.uint64(1)]):
        assert ds.take(asked).column("row_id").to_pylist() == ["doc:0", "doc:1"]


def test_only_the_columns_asked_for_are_read(made):
    """A projection changes the schema and the bytes fetched, and not the fingerprint."""
    full, narrow = open_dataset(str(made[0])), open_dataset(str(made[0]), columns=["n_tokens"])
    assert narrow.schema.names == ["n_tokens"]
    assert narrow.fingerprint == full.fingerprint
    assert narrow.fetch(0).decode().column_names == ["n_tokens"]
    if made[1].shards[0].format == "parquet":
        assert narrow.fetch(0).nbytes < full.fetch(0).nbytes


def test_columns_come_in_the_order_asked(made):
    ds = open_dataset(str(made[0]), columns=["n_tokens", "row_id"])
    assert ds.fetch(0).decode().column_names == ["n_tokens", "row_id"]
    assert ds.take([3]).column_names == ["n_tokens", "row_id"]


def test_a_wrong_column_names_the_nearest(made):
    with pytest.raises(SchemaError, match="did you mean 'n_tokens'"):
        open_dataset(str(made[0]), columns=["n_token"])
    with pytest.raises(ConfigError, match="columns=\\['tokens'\\]"):
        open_dataset(str(made[0]), columns="tokens")
    with pytest.raises(ConfigError):
        open_dataset(str(made[0]), columns=["tokens", "tokens"])


def test_the_fingerprint_does_not_depend_on_the_place(made, tmp_path):
    """Moved, the dataset is the same; also where it has no manifest."""
    folder, manifest = made
    shutil.copytree(folder, tmp_path / "moved")
    assert open_dataset(str(tmp_path / "moved")).fingerprint == manifest.fingerprint
    (folder / "manifest.json").unlink()
    (tmp_path / "moved" / "manifest.json").unlink()
    bare, moved = open_dataset(str(folder)), open_dataset(str(tmp_path / "moved"))
    assert bare.manifest is None
    assert bare.fingerprint == moved.fingerprint
    assert bare.index.rows.tolist() == [4, 4, 2, 4, 3]
    assert bare.take([12]).column("row_id").to_pylist() == ["doc:12"]


def test_other_content_has_another_fingerprint(tmp_path):
    for name, values in (("a", [1, 2, 3]), ("b", [1, 2, 4])):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"x": values}), tmp_path / name / "f.parquet")
    assert open_dataset(str(tmp_path / "a")).fingerprint != open_dataset(str(tmp_path / "b")).fingerprint


def test_one_file_is_a_dataset(made):
    folder, manifest = made
    ds = open_dataset(str(folder / manifest.shards[1].path))
    assert len(ds) == 7
    assert ds.manifest is None


def test_a_folder_with_nothing_to_read_says_what_to_do(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match="datapipe preprocess"):
        open_dataset(str(tmp_path))
    for missing in ("missing", "missing.parquet"):
        with pytest.raises(NotFoundError, match="nothing by that name"):
            open_dataset(str(tmp_path / missing))


def test_patterns_and_lists_of_places_say_what_to_name(made):
    """Not that nothing is there: it is, by another name."""
    folder, _ = made
    with pytest.raises(DatasetError, match=r"is a pattern[\s\S]*name the folder"):
        open_dataset(f"{folder}/data/*.parquet")
    with pytest.raises(ConfigError, match=r"one path or URL[\s\S]*datapipe.mix"):
        open_dataset([str(folder)])  # type: ignore[arg-type]  # as people try
    odd = folder.parent / "odd[1]"
    odd.mkdir()
    with pytest.raises(DatasetError, match="holds no Parquet"):
        open_dataset(odd)


@pytest.mark.parametrize("asked", [{"columns": ["lang"]}, {"filters": [("lang", "==", "en")]},
                                   {"filters": pc.field("lang") == "en"}])  # fmt: skip
def test_a_column_that_folders_are_named_for_is_told_of(tmp_path, asked):
    """Spark and Hive leave it out of the files; nothing else says where it went."""
    for lang in ("en", "de"):
        (tmp_path / f"lang={lang}").mkdir()
        pq.write_table(pa.table({"a": [1, 2]}), tmp_path / f"lang={lang}" / "0.parquet")
    assert open_dataset(tmp_path).schema.names == ["a"]
    with pytest.raises(SchemaError, match=r"names of folders \(lang=de/\)[\s\S]*source='lang'"):
        open_dataset(tmp_path, **asked)


@pytest.mark.parametrize("rows", [0, 3])
def test_an_arrow_stream_is_not_called_damaged(tmp_path, rows):
    """Hugging Face's save_to_disk writes the streaming format: it says how to write it anew."""
    table = pa.table({"a": list(range(rows))}, schema=pa.schema([("a", pa.int64())]))
    with pa.ipc.new_stream(str(tmp_path / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DatasetError, match=r"is an Arrow stream[\s\S]*to_parquet"):
        open_dataset(tmp_path)


def test_mixed_schemas_are_refused_by_name(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": ["one"]}), tmp_path / "b.parquet")
    with pytest.raises(SchemaError, match=r"b\.parquet.*x is string, not int64"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("keep", [0, 3, 40])
def test_a_truncated_file_is_named(made, keep):
    """Cut short, a shard without a manifest cannot be opened, and the error says which."""
    folder, manifest = made
    (folder / "manifest.json").unlink()
    path = folder / manifest.shards[0].path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IntegrityError, match=path.name):
        open_dataset(str(folder))


def test_damaged_rows_are_an_error_that_names_shard_and_row_group(made):
    """Bytes flipped inside a row group never become a batch of Parquet."""
    folder, manifest = made
    shard = manifest.shards[0]
    if shard.format == "arrow":
        pytest.skip("Arrow IPC carries no checksums: `datapipe verify` finds it")
    path = folder / shard.path
    data = bytearray(path.read_bytes())
    at = shard.row_groups.offset[1] + 5
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        open_dataset(str(folder)).fetch(1).decode()
    assert any("row group 1" in note for note in [str(caught.value), *getattr(caught.value, "__notes__", [])])


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_flipped_bit_in_a_row_group_is_an_error_or_changes_nothing(tmp_path, compression):
    """Whichever bit of a row group flips, no other rows come out: some bits of a page header mean nothing."""
    table = pa.table({"x": np.random.default_rng(0).integers(0, 50_000, 4096).astype(np.uint16)})
    store = open_store(str(tmp_path))
    shard = write_shard(store, "data/p", [table], schema=table.schema, row_group_rows=4096, compression=compression)
    publish(store, build_manifest(table.schema, (shard,)))
    path, groups = tmp_path / shard.path, shard.row_groups
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    errors = 0
    for _ in range(150):
        data = bytearray(whole)
        data[groups.offset[0] + int(random.integers(groups.bytes[0]))] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        try:
            assert open_dataset(str(tmp_path)).fetch(0).decode().equals(table)
        except IntegrityError:
            errors += 1
    assert errors > 140


def test_names_with_dots_and_nested_columns_are_projected(tmp_path):
    """A column called "a.b" is not the field b of a struct a, and each is read alone."""
    table = pa.table(
        {
            "m": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
            "a": [{"b": 1, "c": [1, 2]}, {"b": 2, "c": []}],
            "a.b": ["dotted", "name"],
            "list": [[{"x": 1, "y": "z"}], []],
            "last": [1.5, 2.5],
        }
    )
    pq.write_table(table, tmp_path / "f.parquet")
    for names in (["a.b"], ["a"], ["last", "m"], ["list"], ["a.b", "a"]):
        got = open_dataset(str(tmp_path), columns=names).fetch(0)
        assert got.decode().to_pydict() == table.select(names).to_pydict()


def test_a_shard_that_was_replaced_is_noticed(made):
    """A file whose row groups are not those the manifest lists gives an error, not other rows."""
    folder, manifest = made
    first, second = (folder / s.path for s in manifest.shards)
    first.write_bytes(second.read_bytes())
    ds = open_dataset(str(folder))
    with pytest.raises(IntegrityError, match="not the one the index lists|cannot be read"):
        [ds.fetch(b).decode() for b in range(3)]


def test_a_dataset_can_be_sent_to_another_process(made):
    ds = open_dataset(str(made[0]))
    ds.fetch(0).decode()
    copy = pickle.loads(pickle.dumps(ds))
    assert copy.fetch(4).decode().equals(ds.fetch(4).decode())


def test_an_oversized_manifest_is_refused_before_it_is_read(made, monkeypatch):
    monkeypatch.setattr("datapipe.dataset.reader.MAX_MANIFEST_BYTES", 10)
    with pytest.raises(ManifestError, match="bytes"):
        open_dataset(str(made[0]))


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6), groups=st.integers(1, 9), data=st.data())
def test_take_equals_indexing_the_whole(tmp_path_factory, sizes, groups, data):
    """For any cut into files and row groups, empty ones included, take is plain indexing."""
    folder = tmp_path_factory.mktemp("bare")
    at = 0
    for i, n in enumerate(sizes):
        pq.write_table(pa.table({"x": np.arange(at, at + n)}), folder / f"{i}.parquet", row_group_size=groups)
        at += n
    ds = open_dataset(str(folder))
    assert len(ds) == at
    if at:
        asked = data.draw(st.lists(st.integers(0, at - 1), max_size=10))
        assert ds.take(asked).column("x").to_pylist() == asked


def test_a_bare_folders_fingerprint_is_the_same_whatever_is_installed(tmp_path, monkeypatch):
    """Statistics enter as they are stored: what libraries make of times out of their range does not matter."""
    times = pa.array([-(2**62), 0, 2**62], pa.timestamp("us"))
    dates = pa.array([-(2**31), 0, 2**31 - 1], pa.date32())
    decimals = pa.array([1, 2, 3], pa.decimal128(20, 2))
    table = pa.table({"t": times, "d": dates, "m": decimals, "b": [True, False, None], "s": ["a", "b", None]})
    pq.write_table(table, tmp_path / "f.parquet")
    before = open_dataset(str(tmp_path)).fingerprint
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert open_dataset(str(tmp_path)).fingerprint == before
    pq.write_table(table.set_column(2, "m", pa.array([1, 2, 4], pa.decimal128(20, 2))), tmp_path / "f.parquet")
    assert open_dataset(str(tmp_path)).fingerprint != before
