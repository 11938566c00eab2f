"""Payloads between processes: what comes out is what went in, copied once, and nothing stays behind."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datapipe.loader.payload import MESSAGE, receive, send
from datapipe.loader.worker_handle import Died, SpareMemory, WorkerHandle


def there_and_back(value):
    return receive(*send(value))[0]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(1000),
        np.arange(1000)[::3],
        np.asfortranarray(np.arange(600.0).reshape(20, 30)),
        np.arange(3, dtype=np.uint16),
        np.zeros((0, 7), np.float32),
        np.array([None, "a", 3], object),
        np.array(5),
        np.arange(4000).view("datetime64[us]"),
    ],
)
def test_arrays(array):
    """Whatever their shape, strides and dtype; and they can be written to."""
    back = there_and_back({"a": array})["a"]
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    back[...] = back


def test_tables_without_what_they_were_cut_from():
    """A slice of a large table is as small as its rows; dictionaries and metadata stay."""
    whole = pa.table({"n": np.arange(1_000_000), "d": pa.array(["x", "y"] * 500_000).dictionary_encode()})
    cut = whole.slice(500_000, 10).replace_schema_metadata({"a": "b"})
    memory, message = send(cut)
    assert MESSAGE.unpack(message)[2] < 10_000
    back, _ = receive(memory, message)
    assert back.equals(cut)
    assert back.schema.metadata == {b"a": b"b"}


@pytest.mark.parametrize(
    "texts",
    [
        ["a", None, "ö" * 400] * 10,
        [b"\x00\xff", None, b""] * 10,
        ["\ud800"] * 10,
        ["a", b"b"] * 10,
        [None] * 10,
        [1, 2.5, "x"] * 5,
        [],
        ["short"],
    ],
)
def test_lists(texts):
    """Text and bytes with their missing values, mixed lists, halves of surrogate pairs."""
    assert there_and_back({"t": texts, "n": (texts, 1)}) == {"t": texts, "n": (texts, 1)}


def test_tensors():
    """Of every dtype and layout, over the shared memory."""
    torch = pytest.importorskip("torch")
    for tensor in (
        torch.arange(1000),
        torch.arange(1000).reshape(10, 100).t(),
        torch.arange(1000).to(torch.bfloat16),
        torch.tensor(3.0),
        torch.zeros(0, 4),
        torch.arange(6.0).to_sparse(),
        torch.arange(6.0).requires_grad_(),
        torch.zeros(400, dtype=torch.complex64).conj(),
    ):
        back = there_and_back([{"t": tensor}])[0]["t"] if tensor.is_sparse else there_and_back({"t": tensor})["t"]
        assert back.dtype == tensor.dtype
        assert torch.equal(
            back.to_dense() if tensor.is_sparse else back, tensor.to_dense() if tensor.is_sparse else tensor
        )
        assert back.requires_grad == tensor.requires_grad


def test_payloads_are_not_pickled():
    """The header of a large batch is small: arrays, tables and text are beside it."""
    batch = {"x": np.zeros((64, 1000)), "view": np.zeros((1000, 3))[:, 1], "s": ["a text of some length"] * 5000}
    memory, message = send((batch, pa.table({"n": np.arange(100_000)})))
    buffers, header, total = MESSAGE.unpack(message)
    os.close(memory)
    assert buffers == 4
    assert header < 2000
    assert total > 1_400_000


def test_memory_goes_with_the_last_value_over_it():
    """Nothing is left once the values are gone: no descriptor, no mapping."""
    before = open_files()
    back = there_and_back({"a": np.arange(100_000), "b": np.arange(50_000)})
    assert open_files() == before
    only = back.pop("b")
    del back
    assert only[-1] == 49_999
    assert "memfd:datapipe" in Path("/proc/self/maps").read_text()
    del only
    assert "memfd:datapipe" not in Path("/proc/self/maps").read_text()


def test_what_cannot_be_pickled_leaves_nothing_open():
    """An error, and no descriptor."""
    before = open_files()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        send({"f": lambda: 0, "a": np.arange(10_000)})
    assert open_files() == before


def test_memory_is_written_again():
    """Where nobody looks any more: smaller and larger values after each other, in the same memory."""
    free = []
    memory, message = send({"a": np.arange(10_000)})
    for size in (500, 20_000, 300):
        value, alive = receive(memory, message, free.append)
        assert alive() is not None
        del value
        assert alive() is None
        memory, message = send({"a": np.arange(size)}, free.pop())
        assert MESSAGE.unpack(message)[2] < 8 * size + 1000
    value, _ = receive(memory, message)
    assert value["a"].tolist() == list(range(300))


def test_memory_of_a_large_answer_is_given_back_once_small_ones_follow():
    """Free or in use by then, or handed to the next sender: no piece keeps the pages of the largest for good."""
    spare, large = SpareMemory(4), {"a": np.zeros(8 << 20, np.uint8)}
    pieces = [send(large) for _ in range(3)]
    values = []
    for memory, message in pieces:
        assert spare.lend()
        values.append(receive(memory, message, spare.put_back)[0])
    spare.needed(8 << 20)
    del values[0]
    assert os.fstat(pieces[0][0]).st_size > 8 << 20
    spare.needed(5000)
    assert os.fstat(pieces[0][0]).st_size == 5000
    del values[0]
    assert os.fstat(pieces[1][0]).st_size == 5000
    assert values[0]["a"].shape == (8 << 20,)
    memory, _ = send(large, spare.take())
    assert os.fstat(memory).st_size > 8 << 20
    memory, _ = send({"a": np.arange(100)}, memory)
    assert os.fstat(memory).st_size < 1 << 20
    os.close(memory)
    values.clear()
    spare.close()


def test_memory_handed_over_is_closed_when_sending_fails():
    """It does not leak."""
    before = open_files()
    memory, _ = send(1)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        send(lambda: 0, memory)
    assert open_files() == before


class Deadly:
    """Whoever unpickles it is gone."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_worker_that_dies_uses_up_no_piece_of_memory():
    """Its answer never came: the next worker's may be kept as well."""
    spare = SpareMemory(1)
    worker = WorkerHandle()
    with pytest.raises(Died):
        worker.ask(Deadly(), spare)
    worker.end(0)
    assert spare.lend()
    spare.close()
