"""What goes to a worker process and comes back: a small header, and buffers in shared memory that both sides map.

What enters: a value: dicts of arrays, tensors, tables, lists of text, and anything that can be pickled among them.
What leaves: a file descriptor of anonymous memory and a short message; on the other side the value again, its arrays
over the mapped memory. Invariant: the bytes of arrays, tensors, tables and text are copied once, into the memory, and
never pickled; the memory has no name, so that it is gone with the last process that holds it, however that one ends.
"""

from __future__ import annotations

import functools
import io
import mmap
import os
import pickle
import struct
import sys
import tempfile
import weakref
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE: Final = struct.Struct("<IQQ")  # buffers, bytes of the header, bytes in all
_SIZE: Final = struct.Struct("<Q")
_ALIGNED: Final = 64
"""As Arrow wants its buffers, and as wide loads want them."""
_SMALL: Final = 512
"""Bytes of a buffer, below which it is part of the header."""
_KEPT: Final = 1 << 20
"""Bytes of memory that are kept whatever is needed."""
_TEXTS: Final = 8
"""Strings of a list, from which they travel as Arrow."""
_SHARED: Final = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


def send(value: Any, memory: int = -1) -> tuple[int, bytes]:
    """(descriptor of the memory, message); whoever gets the descriptor closes it.

    Args:
        memory: descriptor of memory to write into, which nobody looks into any more; -1: new memory. Pages that are
            there are written in a sixth of the time that new ones take (4 MB: 0.3 ms and 1.9).

    Raises:
        Exception: something in it cannot be pickled. OSError: there is no memory left.
    """
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _SMALL:
            return True
        buffers.append(raw)
        return False

    sink = io.BytesIO()
    try:
        _Pickler(sink, keep).dump(_texts_apart(value))
    except BaseException:
        if memory >= 0:
            os.close(memory)
        raise
    header = sink.getbuffer()
    at = _SIZE.size * len(buffers) + len(header)
    places = []
    for buffer in buffers:
        at = _aligned(at)
        places.append(at)
        at += buffer.nbytes
    try:
        memory = _anonymous() if memory < 0 else memory
        size = os.fstat(memory).st_size
        if size < at or is_vast(size, at):
            os.truncate(memory, at)
        _write(memory, 0, memoryview(b"".join(_SIZE.pack(buffer.nbytes) for buffer in buffers)))
        _write(memory, _SIZE.size * len(buffers), header)
        for place, buffer in zip(places, buffers, strict=True):
            _write(memory, place, buffer)
    except BaseException:
        if memory >= 0:
            os.close(memory)
        raise
    return memory, MESSAGE.pack(len(buffers), len(header), at)


def receive(memory: int, message: bytes, gone: Callable[[int], None] = os.close) -> tuple[Any, weakref.ref[Any]]:
    """The value, and what is dead once nothing looks into the memory any more.

    Args:
        memory: its descriptor. gone: gets that then; by default it is closed now, and the mapping lives without.
    """
    number, size, total = MESSAGE.unpack(message)
    try:
        view, mapping = _mapped(memory, total)
    except BaseException:
        os.close(memory)
        raise
    if gone is os.close:
        os.close(memory)
    else:
        weakref.finalize(mapping, gone, memory).atexit = False
    alive = weakref.ref(mapping)
    sizes = [length for (length,) in _SIZE.iter_unpack(view[: _SIZE.size * number])]
    at = _SIZE.size * number + size
    buffers = []
    for length in sizes:
        at = _aligned(at)
        buffers.append(view[at : at + length])
        at += length
    return pickle.loads(view[_SIZE.size * number :][:size], buffers=buffers), alive  # noqa: S301  (our own process's)


def is_vast(size: int, needed: int) -> bool:
    """Whether memory holds so much more than is needed that the rest is better given back than kept for a next time."""
    return size > max(_KEPT, 4 * needed)


def _aligned(at: int) -> int:
    return -(-at // _ALIGNED) * _ALIGNED


def _anonymous() -> int:
    """Memory without a name: not in /dev/shm, whose size containers limit."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("datapipe")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@functools.cache
def _libc() -> Any:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong,
    )  # fmt: skip
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


@final
class _Mapping:
    """Mapped memory, held by all that looks into it."""

    def __init__(self, address: int, size: int) -> None:
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}


def _mapped(memory: int, size: int) -> tuple[memoryview, Any]:
    """The memory, and what holds it; no descriptor does: batches that are kept would use up all that there may be."""
    if sys.version_info >= (3, 13):
        mapped = mmap.mmap(memory, size, flags=_SHARED, trackfd=False)
        return memoryview(mapped), mapped
    import ctypes

    libc = _libc()
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, _SHARED, memory, 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    mapping = _Mapping(address, size)
    weakref.finalize(mapping, libc.munmap, address, size).atexit = False
    return np.asarray(mapping).data, mapping


def _write(memory: int, at: int, buffer: memoryview) -> None:
    flat = buffer.cast("B")
    while len(flat):
        written = os.pwrite(memory, flat, at)
        at, flat = at + written, flat[written:]


@final
class _Pickler(pickle.Pickler):
    """Keeps payloads out of the header that pickle would put into it, or copy with all that they were cut from."""

    def __init__(self, sink: io.BytesIO, keep: Callable[[pickle.PickleBuffer], bool]) -> None:
        super().__init__(sink, protocol=5, buffer_callback=keep)

    def reducer_override(self, value: Any) -> Any:
        """How a value is taken apart."""
        if type(value) is np.ndarray:
            contiguous = value.flags.c_contiguous or value.flags.f_contiguous
            if contiguous or value.dtype.hasobject:
                return NotImplemented
            return _itself, (np.ascontiguousarray(value),)
        if type(value) is pa.Table:
            return _table, (pickle.PickleBuffer(_stream(value)),)
        if type(value) is _Texts:
            return _texts, (pickle.PickleBuffer(_stream(pa.table({"": value.array}))),)
        torch = sys.modules.get("torch")
        if torch is not None and type(value) is torch.Tensor:
            from datapipe.loader.torch_collate import array_of, tensor_of

            array = array_of(value)
            return NotImplemented if array is None else (tensor_of, (array, str(value.dtype)))
        return NotImplemented


@final
class _Texts:
    """A list of strings, or of bytes, on its way."""

    def __init__(self, array: pa.Array) -> None:
        self.array = array


def _texts_apart(value: Any) -> Any:
    """The same value, in which long lists of text are Arrow arrays."""
    if type(value) is dict:
        return {name: _texts_apart(each) for name, each in value.items()}
    if type(value) is tuple:
        return tuple(_texts_apart(each) for each in value)
    if type(value) is list and len(value) >= _TEXTS:
        kinds = {*map(type, value)} - {type(None)}
        kind = pa.large_string() if kinds == {str} else pa.large_binary() if kinds == {bytes} else None
        if kind is not None:
            try:
                return _Texts(pa.array(value, kind))
            except (UnicodeEncodeError, pa.ArrowInvalid):  # halves of surrogate pairs
                return value
    return value


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _itself(value: Any) -> Any:
    return value


def _table(buffer: Any) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(buffer)).read_all()


def _texts(buffer: Any) -> list[Any]:
    found: list[Any] = _table(buffer).column(0).to_pylist()
    return found
