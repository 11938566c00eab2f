"""The index of a checkpoint's tensors: which lies where, in which type, checked before a file is opened by it.

    {"<part>/<name>": {"dtype": "float32", "shape": [61, 16], "chunks": [[file, offsets, sizes], …]}}

What enters: JSON that anybody may have written, or the headers of version 1's files. What leaves: the same, or a
ValueError that says what is wrong. Invariant: what passes names files of this checkpoint alone, asks for no more memory
than they have bytes, and gives each element once.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import torch

from datapipe.train.checkpoint_files import faults

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FILE: Final = re.compile(r"[a-z]+(-\d{5}-of-\d{5})?\.safetensors")
DTYPES: Final = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip
"""What safetensors holds."""
_MOST: Final = 1 << 60
_MOST_CUT: Final = 4
"""Axes of a tensor that are dealt out: as many as a layout has (data, shard, tensor, pipeline)."""


def index_of_files(folder: Path, parts: Mapping[str, str]) -> dict[str, Any]:
    """The index of files that hold whole tensors, from their headers: part → file."""
    from safetensors import safe_open
    from safetensors.torch import _getdtype

    index: dict[str, Any] = {}
    for part, file in parts.items():
        with faults(f"checkpoint {folder}"), safe_open(folder / file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (no mapping: it has nothing to iterate over)
                header = tensors.get_slice(name)
                shape = list(header.get_shape())
                dtype = str(_getdtype(header.get_dtype())).removeprefix("torch.")
                index[f"{part}/{name}"] = {
                    "dtype": dtype, "shape": shape, "chunks": [[file, [0] * len(shape), shape]],
                }  # fmt: skip
    return index


def check_names(files: Mapping[str, Any]) -> None:
    """Raise ValueError unless all are names of tensors' files, of this folder: before anything is opened by them."""
    for name in files:
        if not _FILE.fullmatch(name):
            raise ValueError(f"a file {name!r}")


def checked_index(index: Any, files: Mapping[str, Any]) -> dict[str, Any]:
    """The index, if it is one: known dtypes, files of this checkpoint, and chunks that fill each tensor.

    Args:
        files: whose names `check_names` has seen.

    Raises:
        ValueError: it is not; the text says what is wrong.
    """
    if not isinstance(index, dict):
        raise ValueError("no index of tensors")  # noqa: TRY004  (its callers read JSON)
    room = {name: record["bytes"] for name, record in files.items()}
    for name, entry in index.items():
        shape = entry["shape"]
        if not re.fullmatch(r"[a-z]+/.+", name) or entry["dtype"] not in DTYPES or not _whole(shape):
            raise ValueError(f"{name} is a {entry['dtype']} of shape {shape}")
        for file, offsets, sizes in entry["chunks"]:
            inside = _whole(offsets) and _whole(sizes) and len(offsets) == len(sizes) == len(shape)
            if file not in files or not inside or any(o + s > n for o, s, n in zip(offsets, sizes, shape, strict=True)):
                raise ValueError(f"{name} has a chunk {file} {offsets} {sizes} of {shape}")
            room[file] -= math.prod(sizes) * DTYPES[entry["dtype"]].itemsize
        if not _tiled(shape, entry["chunks"]):
            raise ValueError(f"{name}'s chunks do not hold each of its {math.prod(shape)} numbers once")
    if any(left < 0 for left in room.values()):
        raise ValueError("its tensors are larger than its files")
    return dict(index)


def _whole(numbers: Any) -> bool:
    """Whether it is a shape or a place that torch can have: also one without a number has strides, of 63 bits."""
    counts = isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)
    return counts and math.prod(max(1, number) for number in numbers) < _MOST


def _tiled(shape: list[int], chunks: list[Any]) -> bool:
    """Whether each element is in one chunk.

    Counting numbers does not tell: two chunks may overlap, and what neither fills is then whatever the memory held. The
    corners of boxes, their signs taking turns along every edge, add up to those of a box if and only if the boxes fill
    it once (the derivative of their indicator functions); in linear time, where comparing pairs takes its square.
    """
    cut = [axis for axis, size in enumerate(shape) if any(sizes[axis] != size for _, _, sizes in chunks)]
    if len(cut) > _MOST_CUT:
        return False
    corners: Counter[tuple[int, ...]] = Counter()
    boxes = [(1, offsets, sizes) for _, offsets, sizes in chunks]
    for sign, offsets, sizes in [*boxes, (-1, [0] * len(shape), shape)]:
        if 0 in sizes:
            continue
        for ends in itertools.product((0, 1), repeat=len(cut)):
            corner = tuple(offsets[axis] + end * sizes[axis] for axis, end in zip(cut, ends, strict=True))
            corners[corner] += sign * (-1) ** sum(ends)
    return not any(corners.values())
