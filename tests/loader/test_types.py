"""Every Arrow type, end to end: whole, sliced, chunked and empty, each row comes out as what it is."""

from __future__ import annotations

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from datapipe.errors import LoaderError
from datapipe.loader import DataLoader
from tests.loader.layouts import LAYOUTS, chunked, delivered, sliced, whole

D = decimal.Decimal
N = 12


NUMBERS = {
    "int8": (pa.array(range(-6, 6), pa.int8()), None, "int64"),
    "uint64": (pa.array([2**63 - 1 - i for i in range(N)], pa.uint64()), None, "int64"),
    "uint64 as it is": (pa.array([2**64 - 1 - i for i in range(N)], pa.uint64()), "stored", "uint64"),
    "int16 as it is": (pa.array(range(N), pa.int16()), "stored", "int16"),
    "float16": (pa.array(np.arange(N, dtype=np.float16) / 2), None, "float16"),
    "float32": (pa.array([i / 3 for i in range(N)], pa.float32()), None, "float32"),
    "bool": (pa.array([i % 3 == 0 for i in range(N)]), None, "bool"),
    "date32": (pa.array([dt.date(1969, 12, 25) + dt.timedelta(i) for i in range(N)]), None, "int64"),
    "timestamp": (pa.array([i * 10**9 for i in range(N)], pa.timestamp("us", tz="Europe/Rome")), None, "int64"),
    "time32": (pa.array(range(N), pa.time32("ms")), None, "int64"),
    "duration": (pa.array(range(N), pa.duration("ns")), None, "int64"),
    "dictionary": (pa.array([i % 3 for i in range(N)]).dictionary_encode(), None, "int64"),
    "run-end encoded": (pc.run_end_encode(pa.array([1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 5, 5])), None, "int64"),
    "fixed list": (pa.array([[i, -i] for i in range(N)], pa.list_(pa.int32(), 2)), None, "int64"),
    "fixed lists in fixed lists": (
        pa.array([[[i], [2 * i], [3 * i]] for i in range(N)], pa.list_(pa.list_(pa.float32(), 1), 3)), None, "float32",
    ),
    "decimal, scaled": (pa.array([D(i) / 4 for i in range(-6, 6)], pa.decimal128(9, 2)), "float64", "float64"),
}  # fmt: skip


def expected(array, dtype):
    plain = pc.run_end_decode(array) if pa.types.is_run_end_encoded(array.type) else array
    if pa.types.is_temporal(plain.type):
        plain = plain.cast(pa.int32() if plain.type.bit_width == 32 else pa.int64())
    return np.array([float(v) if isinstance(v, D) else v for v in plain.to_pylist()], dtype)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(of_tables, case, layout, shuffle):
    array, wanted, dtype = NUMBERS[case]
    if layout is not whole and pa.types.is_run_end_encoded(array.type):
        layout = {sliced: lambda a: pa.chunked_array([pa.concat_arrays([a, a]).slice(len(a))]), chunked: chunked}[
            layout
        ]
    batches, order = delivered(of_tables, layout, array, None if wanted is None else {"c": wanted}, shuffle=shuffle)
    values = np.concatenate([batch["c"] for batch in batches])[order]
    assert values.dtype == np.dtype(dtype)
    assert np.array_equal(values, expected(array, dtype))


@pytest.mark.parametrize("case", NUMBERS)
def test_empty_numbers(of_tables, case):
    array, wanted, dtype = NUMBERS[case]
    batches, _ = delivered(of_tables, whole, array.slice(0, 0), None if wanted is None else {"c": wanted})
    assert batches == []
    first = pa.table({"c": array.slice(0, 0)})
    second = pa.table({"c": array})
    with DataLoader(
        of_tables(first, second), N, collate="numpy", dtypes=wanted and {"c": wanted}, prefetch=0
    ) as loader:
        (batch,) = loader
    assert batch["c"].dtype == np.dtype(dtype)


DIGITS = [D("-12345.67"), D("0.01"), D("99999.99"), D(0)] * 3


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", [pa.decimal128(18, 2), pa.decimal256(40, 2), pa.decimal32(7, 2), pa.decimal64(16, 2)])
def test_a_decimals_digits_are_exact(of_tables, kind, layout):
    batches, order = delivered(of_tables, layout, pa.array(DIGITS, kind), {"c": "unscaled"})
    values = np.concatenate([batch["c"] for batch in batches])[order]
    assert values.tolist() == [int(d * 100) for d in DIGITS]


def test_digits_beyond_int64_are_refused(of_tables):
    array = pa.array([D(1), D(2**63) / 100], pa.decimal128(38, 2))
    with pytest.raises(LoaderError, match=r"(?s)'c' holds 92233720368547758.08.*float64"):
        delivered(of_tables, whole, array, {"c": "unscaled"})
    lowest = pa.array([D(-(2**63)) / 100], pa.decimal128(38, 2))
    batches, _ = delivered(of_tables, whole, lowest, {"c": "unscaled"})
    assert batches[0]["c"].tolist() == [-(2**63)]


TEXT = ["", "a", "twelve bytes", "thirteen byte", "naïve café – 東京", None, "x" * 5000, "é" * 6, "end", "a", "b", None]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
     pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("shuffle", [False, True])
def test_text(of_tables, kind, layout, shuffle):
    base = pa.array(TEXT)
    as_bytes = "binary" in str(kind)
    array = base.dictionary_encode() if pa.types.is_dictionary(kind) else base.cast(kind)
    batches, order = delivered(of_tables, layout, array, shuffle=shuffle)
    found = [value for batch in batches for value in batch["c"]]
    wanted = [value.encode() if as_bytes and value is not None else value for value in TEXT]
    assert [found[i] for i in order] == wanted


def test_text_of_one_width_and_no_rows_and_only_nulls(of_tables):
    array = pa.array([f"{i:03}".encode() for i in range(N)], pa.binary(3))
    for layout in LAYOUTS:
        batches, order = delivered(of_tables, layout, array)
        found = [value for batch in batches for value in batch["c"]]
        assert [found[i] for i in order] == array.to_pylist()
    for kind in (pa.string(), pa.binary(3), pa.large_binary()):
        batches, _ = delivered(of_tables, whole, pa.nulls(4, kind))
        assert batches[0]["c"] == [None] * 4


def test_row_groups_of_narrow_and_wide_offsets_mix(of_tables):
    """Arrow may give some row groups of a column with 64-bit offsets."""
    narrow = pa.table({"c": pa.array(["one", "a much longer piece of text"])})
    wide = pa.table({"c": pa.array(["two", "another long piece of text", None], pa.large_string())})
    with DataLoader(of_tables(narrow, wide), 5, seed=1, collate="numpy", prefetch=0) as loader:
        (batch,) = loader
    assert sorted(map(str, batch["c"])) == sorted(map(str, [*narrow["c"].to_pylist(), *wide["c"].to_pylist()]))


def test_a_string_that_is_not_utf8_is_named(of_tables):
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 20], np.int32)), pa.py_buffer(b"\xff" * 20)]
    )
    with pytest.raises(LoaderError, match="column 'c' holds a string that is not UTF-8"):
        delivered(of_tables, whole, bad)


LISTS = {
    "numbers": ([[1, 2], [], [3], list(range(200)), [5]] * 2 + [[7], []], pa.int16()),
    "short": ([[i] * (i % 3) for i in range(N)], pa.float64()),
    "flags": ([[True, False], [], [True]] * 4, pa.bool_()),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("make", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view])
@pytest.mark.parametrize("case", LISTS)
def test_lists_are_padded(of_tables, case, make, layout):
    rows, kind = LISTS[case]
    array = pa.array(rows, make(kind))
    batches, order = delivered(of_tables, layout, array, shuffle=True)
    found = [
        row[:length].tolist() for batch in batches for row, length in zip(batch["c"], batch["c_lengths"], strict=True)
    ]
    assert [found[i] for i in order] == rows
    for batch in batches:
        beyond = np.arange(batch["c"].shape[1]) >= batch["c_lengths"][:, None]
        assert not batch["c"][beyond].any()
        assert batch["c"].shape[1] == batch["c_lengths"].max(initial=0)


def test_lists_of_vectors(of_tables):
    rows = [[[i, i + 1]] * (i % 4) for i in range(N)]
    batches, order = delivered(of_tables, sliced, pa.array(rows, pa.list_(pa.list_(pa.int32(), 2))), shuffle=True)
    found = [row[:n].tolist() for b in batches for row, n in zip(b["c"], b["c_lengths"], strict=True)]
    assert [found[i] for i in order] == rows
    assert batches[0]["c"].shape[2:] == (2,)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_python_objects(of_tables, layout):
    texts = [["a", None], [], None, ["b"]] * 3
    maps = [[("k", i)] for i in range(N)]
    for rows, kind, dtypes in (
        (texts, pa.list_(pa.string()), None),
        (maps, pa.map_(pa.string(), pa.int8()), {"c": "object"}),
        ([[[1], []]] * N, pa.list_(pa.list_(pa.int8())), {"c": "object"}),
    ):
        batches, order = delivered(of_tables, layout, pa.array(rows, kind), dtypes, shuffle=True)
        found = [value for batch in batches for value in batch["c"]]
        assert [found[i] for i in order] == rows


@pytest.mark.parametrize("prefetch", [0, 2])
def test_python_objects_need_have_no_length(of_tables, prefetch):
    """Numbers and nulls as Python objects, ahead too, where the size of batches is counted."""
    rows = [None, 1, 2] * 4
    data = of_tables(pa.table({"c": pa.array(rows)}))
    with DataLoader(data, 4, shuffle=False, collate="numpy", dtypes={"c": "object"}, prefetch=prefetch) as loader:
        assert [value for batch in loader for value in batch["c"]] == rows


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_structs(of_tables, layout):
    rows = [{"x": i, "in": {"s": f"s{i}", "v": [i, i]}} for i in range(N)]
    kind = pa.struct([("x", pa.int8()), ("in", pa.struct([("s", pa.string()), ("v", pa.list_(pa.int16(), 2))]))])
    batches, order = delivered(of_tables, layout, pa.array(rows, kind), shuffle=True)
    assert list(batches[0]) == ["id", "c.x", "c.in.s", "c.in.v"]
    x = np.concatenate([batch["c.x"] for batch in batches])[order]
    v = np.concatenate([batch["c.in.v"] for batch in batches])[order]
    s = [value for batch in batches for value in batch["c.in.s"]]
    assert x.tolist() == v[:, 0].tolist() == list(range(N))
    assert [s[i] for i in order] == [f"s{i}" for i in range(N)]


def test_the_fields_of_a_missing_struct_are_missing(of_tables):
    array = pa.array([{"x": 1}, None, {"x": 3}], pa.struct([("x", pa.int8())]))
    with pytest.raises(LoaderError, match="'c.x' holds 1 null"):
        delivered(of_tables, whole, array)
    batches, _ = delivered(of_tables, whole, array, nulls="mask")
    assert batches[0]["c.x_valid"].tolist() == [True, False, True]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()], ids=str)
def test_places_among_listed_values(of_tables, kind, layout):
    rows = ["dog", "cat", "cat", "owl"] * 3
    array = pa.array(rows).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(rows, kind)
    batches, order = delivered(of_tables, layout, array, {"c": ["cat", "dog", "owl"]}, shuffle=True)
    values = np.concatenate([batch["c"] for batch in batches])[order]
    assert values.tolist() == [1, 0, 0, 2] * 3
    with pytest.raises(LoaderError, match="'c' holds 'owl'"):
        delivered(of_tables, layout, array, {"c": ["cat", "dog"]})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_keep_their_shape(of_tables, layout):
    """Images and embeddings stored as Arrow's fixed-shape tensors come as they went in."""
    values = np.arange(N * 6, dtype=np.float32).reshape(N, 2, 3)
    batches, order = delivered(of_tables, layout, pa.FixedShapeTensorArray.from_numpy_ndarray(values), shuffle=True)
    assert np.array_equal(np.concatenate([each["c"] for each in batches])[order], values)


# ---- nulls


def test_shuffled_tables_are_delivered_by_rows_with_every_width(of_tables):
    """Columns of all widths kept together: each value comes out in its own column."""
    rng = np.random.default_rng(0)
    kinds = ["int8", "uint16", "int32", "int64", "float16", "float32", "float64", "bool"]
    data = {kind: rng.integers(0, 2 if kind == "bool" else 100, 50).astype(kind) for kind in kinds}
    data["id"] = np.arange(50)
    arrays = {name: pa.array(values) for name, values in data.items()}
    arrays["pair"] = pa.array(np.stack([data["id"], -data["id"]], axis=1).tolist(), pa.list_(pa.int32(), 2))
    table = pa.table(arrays)
    for dtypes in (None, "stored"):
        loader = DataLoader(
            of_tables(table[:20], table[20:33], table[33:]), 7, seed=1, tail="partial", collate="numpy", dtypes=dtypes
        )
        seen = []
        with loader:
            for batch in loader:
                seen += batch["id"].tolist()
                for name, values in data.items():
                    assert np.array_equal(batch[name], values[batch["id"]]), name
                    if dtypes == "stored":
                        assert batch[name].dtype == values.dtype
                assert batch["pair"].tolist() == [[i, -i] for i in batch["id"].tolist()]
        assert sorted(seen) == list(range(50))


def test_columns_for_a_device_are_contiguous():
    """A copy to a device from an array with strides would wait for a copy on the host."""
    from datapipe.device import BufferPool
    from datapipe.loader.block import Block
    from datapipe.loader.columns import plan_columns
    from datapipe.loader.gather import batch_of_table

    table = pa.table({f"c{i}": pa.array(range(i, i + 9), pa.int32()) for i in range(6)})
    for contiguous in (False, True):
        columns = plan_columns(table.schema, together=True)
        columns.contiguous = contiguous
        batch = batch_of_table(table, columns, BufferPool())
        assert Block(table, columns).nbytes == 9 * 24
        for i in range(6):
            assert batch[f"c{i}"].tolist() == list(range(i, i + 9))
            assert batch[f"c{i}"].flags.c_contiguous == contiguous
