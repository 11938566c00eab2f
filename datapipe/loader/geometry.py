"""Shuffle geometry: how a dataset's blocks are cut into lanes, and how many of a lane's blocks are mixed together.

What enters: rows and bytes per block (a block is a row group), and what the user asked for. What leaves: the number of
lanes and of blocks per window, and where the lanes are cut. Invariant: it depends on the dataset alone, never on ranks,
threads or memory at hand, so that it is the same wherever the run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_LANES: Final = 8
"""Lanes by default, at most: each rank of a machine with 1, 2, 4 or 8 accelerators reads whole lanes."""
BLOCKS_PER_LANE: Final = 4
"""Fewer blocks than this and lanes would differ much in length, so that the epoch would end on one lane alone."""
WINDOW_BYTES: Final = 256 << 20
"""Uncompressed bytes of all windows together by default: what one process that reads every lane holds."""
LANE_BYTES: Final = 1 << 30
"""Where blocks are so large that one of each lane exceeds this, there are fewer lanes by default."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """`lanes` slices of the dataset are read side by side; rows mix within `window` blocks of a lane.

    `parts`: of a mix, (lanes, window) of each source that is read; then `lanes` are all, `window` the longest.
    """

    lanes: int
    window: int
    parts: tuple[tuple[int, int], ...] = ()


def choose_geometry(
    rows: npt.NDArray[np.int64],
    nbytes: npt.NDArray[np.int64],
    *,
    shuffle: bool,
    lanes: int | None = None,
    window: int | None = None,
    beside: int = 1,
) -> Geometry:
    """The geometry asked for, checked; what is None is chosen from the blocks' number and size.

    The sizes are the files' own word for their uncompressed bytes. A manifest's fingerprint covers schema, rows
    and checksums, not its copy of these: a manifest altered there alone gives other defaults under one fingerprint.
    That changes no resumed run: the geometry chosen is recorded in the loader's state and taken over from it.
    Whoever needs fresh runs to agree over such manifests names lanes and window.

    Args:
        rows: int64[n], rows of each block. nbytes: int64[n], uncompressed bytes of each.
        beside: how many datasets are read side by side, of which each has its part of the memory.
        shuffle: without it the default is one lane and windows of one block: file order, least memory.

    Raises:
        ConfigError: lanes or window is below 1.
    """
    for name, value in (("lanes", lanes), ("window", window)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"{name}={value!r}", expected="a whole number from 1, or None to have it chosen")
    held = rows > 0
    blocks = int(np.count_nonzero(held))
    if blocks == 0:
        return Geometry(lanes=lanes or 1, window=window or 1)
    mean = max(1, int(nbytes[held].sum()) // blocks)
    if lanes is None:
        lanes = 1
        if shuffle:
            most = min(MAX_LANES, blocks // BLOCKS_PER_LANE, max(1, LANE_BYTES // (mean * beside)))
            while lanes * 2 <= most:  # a power of two divides the most world sizes
                lanes *= 2
    lanes = min(lanes, blocks)
    if window is None:
        window = max(1, WINDOW_BYTES // (lanes * mean * beside)) if shuffle else 1
    return Geometry(lanes=lanes, window=min(window, -(-blocks // lanes)))


def cut_lanes(rows: npt.NDArray[np.int64], lanes: int) -> npt.NDArray[np.int64]:
    """Cut blocks into contiguous lanes of about equal rows, at least one block each.

    Args:
        rows: int64[n], rows of each block, none empty, n ≥ lanes.

    Returns:
        int64[lanes + 1]: lane l holds blocks [cut[l], cut[l + 1]).
    """
    ends = np.cumsum(rows)
    total = int(ends[-1])
    cut = [0]
    for lane in range(1, lanes):
        ideal = total * lane / lanes
        at = int(np.searchsorted(ends, ideal))  # the block that straddles the ideal cut goes to the nearer side
        if at < len(ends) and ends[at] - ideal <= ideal - (ends[at] - rows[at]):
            at += 1
        cut.append(min(max(at, cut[-1] + 1), len(rows) - (lanes - lane)))
    cut.append(len(rows))
    return np.array(cut, np.int64)
