"""Files made to harm: each is an error of ours or a counted quarantine, in bounded memory; no process dies of one.

The inputs are what fuzzing found (`benchmarks/fuzz`), made anew; without their cures several of these tests end the
process that runs them.
"""

import contextlib
import gzip
import io
import json
import struct
import tarfile
import weakref
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.corpus import ReadOptions, discover, plan_splits, read_piece
from datapipe.dataset import open_dataset
from datapipe.dataset.decompression import pages
from datapipe.dataset.manifest import parse_manifest
from datapipe.dataset.soundness import check_decoded, check_stored
from datapipe.errors import (
    ConfigError,
    DatapipeError,
    IntegrityError,
    ManifestError,
    ProfileError,
    SchemaError,
    StateError,
)
from datapipe.loader.values import _numbers
from datapipe.parquet_chunks import check_chunks
from datapipe.preprocess import preprocess, retune
from datapipe.profiling.span_file import NAME, load_spans
from datapipe.profiling.trace_merge import merge_traces
from datapipe.steps.tokenize_text import load_tokenizer

RECORDS = ReadOptions(text_column=None, columns=("*",))


def reasons(path, options=RECORDS, *, target_bytes=1 << 30):
    """Rows, and why there are none, of a file."""
    rows, found = 0, []
    for split in plan_splits(discover([str(path)]).files, target_bytes=target_bytes):
        for piece in split.pieces:
            for batch in read_piece(piece, options=options):
                batch.table.validate(full=True)
                rows += batch.table.num_rows
                found += [bad.reason for bad in batch.quarantined]
    return rows, found


def with_wrong_lists(make):
    """An Arrow file of a list column whose offsets lead far out of its values."""
    sink = io.BytesIO()
    table = pa.table({"x": [["aaa"], ["bb"]]})
    with make(sink, table.schema) as writer:
        writer.write_table(table)
    right, wrong = struct.pack("<3i", 0, 1, 2), struct.pack("<3i", 0, 1 << 30, 1 << 30)
    assert sink.getvalue().count(right) == 1
    return sink.getvalue().replace(right, wrong)


@pytest.mark.parametrize("make", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_lists_that_lead_nowhere(tmp_path, make):
    """A corpus quarantines the file; a dataset refuses the row group, and so does a loader."""
    path = tmp_path / "data" / "a.arrow"
    path.parent.mkdir()
    path.write_bytes(with_wrong_lists(make))
    assert reasons(path) == (0, ["damaged_file"])
    assert reasons(path, target_bytes=10) == (0, ["damaged_file"])
    if make is pa.ipc.new_file:
        ds = open_dataset(path.parent)
        with pytest.raises(IntegrityError, match="row group 0"):
            ds.take([0])


def test_an_arrow_column_that_python_has_no_values_for(tmp_path):
    """An interval of months: Arrow's file holds it, pyarrow knows its type and raises KeyError for its values."""
    table = pa.table({"when": pa.array([pa.MonthDayNano([1, 2, 3])])})
    held = io.BytesIO()
    with pa.ipc.new_file(held, table.schema) as writer:
        writer.write_table(table)
    data = bytearray(held.getvalue())
    data[data.rindex(2, 0, data.rindex(b"ARROW1"))] = 0  # the unit, in the footer's schema: months, days, nanoseconds
    (tmp_path / "a.arrow").write_bytes(data)
    opened = open_dataset(tmp_path)
    assert str(opened.schema.field("when").type) == "month_interval"
    with pytest.raises(IntegrityError, match="'when' is of a type that has no values"):
        opened.fetch(0).decode()


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_two_columns_of_one_name(tmp_path, form):
    """Refused in words where both would be read; the others can be."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "", ""])
    if form == "parquet":
        pq.write_table(table, tmp_path / "x.parquet")
    else:
        with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as writer:
            writer.write_table(table)
    for columns in (None, [""]):
        with pytest.raises(SchemaError, match="2 columns are called"):
            open_dataset(tmp_path, columns=columns)
    assert open_dataset(tmp_path, columns=["a"]).take([0]).to_pylist() == [{"a": 1}]


def test_an_arrow_file_of_no_batches_is_cut_into_nothing(tmp_path):
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), pa.schema([("x", pa.string())])):
        pass
    assert reasons(tmp_path / "a.arrow", target_bytes=1) == (0, [])


def test_parquet_footers_that_pyarrow_dies_of(tmp_path):
    """Every byte of a footer altered: what cannot be described is damaged, and nothing ends the process."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [[1], [2, 3]], "s": ["a", "b"]}), sink, compression="none", store_schema=False)
    data = sink.getvalue()
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    damaged = []
    for at in range(begin, len(data) - 8):
        for value in (data[at] ^ 2, 0):
            changed = data[:at] + bytes([value]) + data[at + 1 :]
            try:
                meta = pq.ParquetFile(io.BytesIO(changed)).metadata
            except (pa.ArrowException, OSError, ValueError):
                continue
            try:
                check_chunks(meta, len(changed))
            except ValueError:
                damaged.append(changed)
    assert len(damaged) > 5
    path = tmp_path / "a.parquet"
    for changed in damaged:
        path.write_bytes(changed)
        with pytest.raises(DatapipeError):
            open_dataset(path)
    assert reasons(path, target_bytes=10)[0] in (0, 2)
    opened = 0
    for at in range(begin, len(data) - 8, 2):  # and what can be described is read, or refused
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with contextlib.suppress(DatapipeError):
            ds = open_dataset(path)
            opened += 1
            assert all(ds.fetch(block).decode().num_rows == ds.row_groups[block].rows for block in range(1))
    assert opened > 5


def test_looking_at_a_footer_keeps_nothing():
    """Arrow holds the error that ends the look: not, with it, what the caller holds."""

    class Held:
        pass

    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), sink)
    meta = pq.ParquetFile(io.BytesIO(sink.getvalue())).metadata

    def look():
        held = Held()
        check_chunks(meta, len(sink.getvalue()))
        return weakref.ref(held)

    assert look()() is None


@pytest.mark.parametrize("indices", [[0, 3], [-1, 0], [1 << 30]])
def test_indices_beyond_their_dictionary(indices):
    """Parquet's decoder gives them on as the file has them; whoever spelled the values out would read elsewhere."""
    wrong = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(["a", "b", "c"]), safe=False)
    right = pa.DictionaryArray.from_arrays(pa.array([0, None, 2], pa.int32()), pa.array(["a", "b", "c"]))
    for check in (check_decoded, check_stored):
        check(pa.table({"x": right}))
        with pytest.raises(ValueError, match=f"index {min(indices) if min(indices) < 0 else max(indices)} into a"):
            check(pa.table({"x": wrong}))
    inside = pa.StructArray.from_arrays([wrong], names=["d"])
    with pytest.raises(pa.ArrowException):
        check_decoded(pa.table({"x": inside}))


def test_page_headers_end(tmp_path):
    """Lengths below zero, lists without end, numbers without end, structs within structs."""
    del tmp_path
    for header in (
        b"\x15\x00\x15\x01\x15\x03\x00", b"\x15" + b"\xff" * 40, b"\x1c" * 4000, b"\x19\xf1\xff\xff\xff\xff\x07",
        b"\x19\x19" * 3000, b"\x2c\x00", b"\x15\x00", b"\x00", b"\x85\x80\x80",
    ):  # fmt: skip
        with pytest.raises(ValueError):
            list(pages(memoryview(header)))


def manifest(made):
    return json.loads((made / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A published dataset."""
    from datapipe.dataset import build_manifest, publish, write_shard
    from datapipe.storage import open_store

    folder = tmp_path_factory.mktemp("ds")
    store = open_store(str(folder))
    table = pa.table({"tokens": [[1, 2]] * 12, "n_tokens": [2] * 12})
    shard = write_shard(store, "data/part-0", [table], schema=table.schema, row_group_rows=4)
    publish(store, build_manifest(table.schema, (shard,)))
    return folder


ALTERED = {
    "outside": lambda m: m["shards"][0].update(path="../../etc/passwd"),
    "absolute": lambda m: m["shards"][0].update(path="/etc/passwd"),
    "scheme": lambda m: m["shards"][0].update(path="file:///etc/passwd"),
    "huge count": lambda m: m["shards"][0].update(rows=1 << 70),
    "negative": lambda m: m["shards"][0]["row_groups"].update(rows=[-4, 8, 8]),
    "huge groups": lambda m: m["shards"][0]["row_groups"].update(rows=[1 << 61, 1 << 61, 4]),
    "a float": lambda m: m["shards"][0].update(rows=12.0),
    "NaN": lambda m: m["shards"][0].update(rows=float("nan")),
    "a text": lambda m: m.update(shards="none"),
    "a field more": lambda m: m["shards"][0].update(url="http://evil"),
    "a schema that is none": lambda m: m.update(arrow_schema="AAAA"),
    "twice": lambda m: m.update(shards=m["shards"] * 2),
    "another's checksum": lambda m: m["shards"][0]["checksum"].update(value="0" * 32),
}


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
def test_hostile_manifests(made, change):
    """Refused in words before a byte of any shard is read."""
    altered = manifest(made)
    change(altered)
    with pytest.raises(ManifestError):
        parse_manifest(json.dumps(altered).encode(), where="manifest.json")


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"format": "datapipe", "version": 1, "shards": ' + b"[" * 50_000, b"\xff\xfe", b"", b"null",
     b'{"format": "datapipe", "version": 1e400}', b'{"format": "datapipe", "version": 1, "format": "x"}'],
    ids=["deep", "deep within", "no UTF-8", "nothing", "null", "infinite", "a key twice"],
)  # fmt: skip
def test_hostile_json(data):
    with pytest.raises(ManifestError):
        parse_manifest(data, where="manifest.json")


def test_hostile_states(made):
    """An epoch beyond any count is refused, before a batch."""
    ds = open_dataset(str(made))
    both = datapipe.mix({"a": ds, "b": ds}, weights={"a": 0.5, "b": 0.5})
    loader = datapipe.DataLoader(both, 4, prefetch=0, rank=0, world_size=1, collate="numpy")
    next(iter(loader))
    state = {**loader.state_dict(), "epoch": (1 << 62) - 1}
    loader.load_state_dict(state)
    with pytest.raises(StateError):
        next(iter(loader))


def test_hostile_spans(tmp_path):
    """Arrays of other shapes and types, a text that is no object, members that claim a terabyte."""
    from datapipe.events import FIELDS

    spans = np.zeros(2, np.dtype(list(FIELDS)))
    about = {"version": 1, "stages": ["a"], "threads": [], "began": 0, "ended": 1, "wall": 1, "started_unix_ns": 0}
    about |= {"complete": True, "title": "", "lost": 0, "environment": {}}

    def write(about, spans=spans):
        np.savez(tmp_path / NAME, spans=spans, about=np.frombuffer(json.dumps(about).encode(), np.uint8))

    write(about)
    assert load_spans(tmp_path).stages == ("a",)
    for wrong in ([], {**about, "stages": True}, {**about, "lock": [1]}, {**about, "probes": [[1]]}, {"version": 1}):
        write(wrong)
        with pytest.raises(ProfileError):
            load_spans(tmp_path)
    write({**about, "ended": 1 << 70})
    with pytest.raises(ProfileError):
        load_spans(tmp_path)
    write(about, np.zeros((1, 2)))
    with pytest.raises(ProfileError):
        load_spans(tmp_path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": list(FIELDS), "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        archive.writestr("spans.npy", header.getvalue())
        archive.writestr("about.npy", b"\x93NUMPY\x01\x00\x10\x00'''")
    with pytest.raises(ProfileError):
        load_spans(tmp_path)


@pytest.mark.parametrize(
    "event", [{"ts": "now", "ph": "X"}, {"pid": [1]}, {"ph": {}}, {"ts": 1 << 80}, {"ts": float("inf")}], ids=str
)
def test_hostile_traces(tmp_path, event):
    """Times, processes and kinds of other types are refused, as is what no JSON holds."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"baseTimeNanoseconds": 1, "traceEvents": [event]}))
    with pytest.raises(ProfileError):
        merge_traces([path, path], tmp_path / "out.json.gz")


def test_a_trace_that_is_a_bomb(tmp_path, monkeypatch):
    """What it unpacks to is bounded while it is unpacked."""
    monkeypatch.setattr("datapipe.profiling.trace_merge._LARGEST", 1000)
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(b" " * 100_000))
    with pytest.raises(ProfileError, match="more than 1,000 bytes"):
        merge_traces([tmp_path / "t.json.gz"], tmp_path / "out.json.gz")


@pytest.mark.parametrize("number", [(1 << 31) - 1, 1 << 40, -1, "1", None])
def test_tokenizers_of_ids_that_no_vocabulary_has(tmp_path, number):
    """The library allocates a place for each id up to the largest, and ends the process where it cannot."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "b": number}}}))
    with pytest.raises(ConfigError):
        load_tokenizer(str(path))


def test_a_tar_writes_nothing_and_leads_nowhere(tmp_path):
    """Members outside, links and devices cost their row alone."""
    bad = tmp_path / "in" / "a.tar"
    bad.parent.mkdir()
    with tarfile.open(bad, "w") as archive:
        for name, kind in (
            ("../../up.jpg", tarfile.REGTYPE),
            ("/abs.jpg", tarfile.REGTYPE),
            ("l.jpg", tarfile.SYMTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "/etc/passwd", 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"abc"))
    options = replace(RECORDS, columns=(), media="image")
    files = discover([str(bad)], media="image").files
    batches = [b for split in plan_splits(files) for piece in split.pieces for b in read_piece(piece, options=options)]
    assert sum(batch.table.num_rows for batch in batches) == 0
    assert {bad.reason for batch in batches for bad in batch.quarantined} <= {"unsafe_path", "not_regular_file"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tar", "in"]


def test_a_buffer_that_ends_within_a_value():
    """Of a buffer that is longer than its values, by part of one, the values are given."""
    array = pa.Array.from_buffers(pa.int64(), 2, [None, pa.py_buffer(struct.pack("<3q", 7, 8, 9) + b"abc")], offset=1)
    assert _numbers(array, SimpleNamespace(reading=None), None).tolist() == [8, 9]


def test_an_index_that_lacks_columns(tmp_path):
    """Questions to a dataset whose index was altered end in words."""
    (tmp_path / "in.jsonl").write_text('{"text": "some words and the rest of them"}\n' * 3)
    recipe = {"steps": ["decode", {"gopher_quality@whitespace": {"min_words": 2}}]}
    out = tmp_path / "out"
    preprocess(str(tmp_path / "in.jsonl"), str(out), recipe=recipe, workers=0)
    altered = False
    for path in (out / "index" / "signals").iterdir():
        table = pq.read_table(path)
        names = [name for name in table.column_names if name.startswith("gopher")]
        altered |= bool(names)
        pq.write_table(table.drop_columns(names), path)
    assert altered
    with pytest.raises(DatapipeError):
        retune(str(out), {"gopher_quality.min_words": [1, 9]})
