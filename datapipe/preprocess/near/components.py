"""Connected components: which documents are linked, however far round.

What enters: links between places (numbers). What leaves: for each linked place the least place of its component.
Invariant: the result is a function of the set of links, whatever their order.

In memory, scipy's `connected_components` (72 bytes a link, about). Beyond `IN_MEMORY` links, on disk: large-star and
small-star (Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii, "Connected Components in MapReduce and Beyond", SoCC
2014), alternately until nothing changes, each a pass over files of links hashed by node; memory is one file's links.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.near.record_file import put_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

IN_MEMORY: Final = 4_000_000
"""Links that are resolved in memory, some 600 MB with all that is held beside them: within a worker's budget of 1 GiB;
fewer where a caller says so."""
_HASH: Final = 0x9E3779B97F4A7C15


def components(one: npt.NDArray[np.uint64], two: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The components of links held in memory.

    Args:
        one, two: uint64[n], the ends of each link; a link of a place with itself names a place alone.

    Returns:
        uint64[m, 2]: each place that occurs, ascending, and the least of its component.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places, ends = np.unique(np.concatenate([one, two]), return_inverse=True)
    if not len(places):
        return np.zeros((0, 2), np.uint64)
    n = len(places)
    ones = np.ones(len(one), np.int8)
    graph = coo_array((ones, (ends[: len(one)], ends[len(one) :])), shape=(n, n))
    count, labels = connected_components(graph, directed=False)
    # Places ascend, so the first that has a label is the least of its component.
    least = np.full(count, n, np.int64)
    np.minimum.at(least, labels, np.arange(n))
    return np.column_stack([places, places[least[labels]]])


def components_on_disk(
    links: Iterable[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]], folder: str | None, parts: int = 64
) -> Iterator[npt.NDArray[np.uint64]]:
    """The same for more links than memory holds.

    Args:
        links: (one, two) in batches. folder: where scratch files may lie, twice the size of the links.
        parts: into how many files they are hashed; memory is about 100 bytes for each link of one.

    Yields:
        uint64[m, 2] as `components` gives it, together every place once.
    """
    with tempfile.TemporaryDirectory(prefix="components-", dir=folder) as scratch:
        now = _Links(scratch, "links", parts)
        for one, two in links:
            now.add(one, two)
        number = 0
        while True:
            number += 1
            larger = _Links(scratch, f"large{number}", parts)
            moved = now.star(larger, large=True)
            smaller = _Links(scratch, f"small{number}", parts)
            moved |= larger.star(smaller, large=False)
            now = smaller
            if not moved:
                break
        yield from now.leaders()


def scatter(paths: list[str], records: npt.NDArray[Any], keys: npt.NDArray[np.uint64]) -> None:
    """Append each record to the file that its key hashes to."""
    import numpy as np

    part = ((keys * np.uint64(_HASH)) >> np.uint64(40)) % np.uint64(len(paths))
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(len(paths) + 1, dtype=np.uint64))
    for number, path in enumerate(paths):
        chosen = order[bounds[number] : bounds[number + 1]]
        if len(chosen):
            with open(path, "ab") as file:  # noqa: PTH123
                put_records(file, records[chosen])


@final
class _Links:
    """Links in files by the hash of their greater end; added to, then read once."""

    def __init__(self, folder: str, name: str, parts: int) -> None:
        self._paths = [os.path.join(folder, f"{name}-{part}") for part in range(parts)]  # noqa: PTH118
        self._both = [os.path.join(folder, f"{name}-both-{part}") for part in range(parts)]  # noqa: PTH118

    def add(self, one: npt.NDArray[np.uint64], two: npt.NDArray[np.uint64]) -> None:
        """Append links of any direction."""
        import numpy as np

        self._append(self._paths, np.maximum(one, two), np.minimum(one, two))

    def star(self, into: _Links, *, large: bool) -> bool:
        """One star operation over all nodes; whether any link changed."""
        import numpy as np

        if large:
            # A node sees its neighbours on both sides.
            for part in range(len(self._paths)):
                links = self._read(self._paths, part)
                self._append(self._both, links[:, 0], links[:, 1])
                self._append(self._both, links[:, 1], links[:, 0])
        moved = False
        for part in range(len(self._paths)):
            links = self._read(self._both if large else self._paths, part)
            if not len(links):
                continue
            links = np.unique(links, axis=0)
            node, other = links[:, 0], links[:, 1]
            begins = np.flatnonzero(np.concatenate([[True], node[1:] != node[:-1]]))
            least = np.minimum(np.minimum.reduceat(other, begins), node[begins])
            least = np.repeat(least, np.diff(np.append(begins, len(node))))
            if large:
                # The greater neighbours, to the least of all; who is linked with itself alone stays.
                chosen = other > node
                moved |= bool((least[chosen] != node[chosen]).any())
                into.add(other[chosen], least[chosen])
                into.add(node[node == other], node[node == other])
            else:
                # The lesser neighbours and the node, to the least of them.
                moved |= bool((other != least).any())
                into.add(other, least)
                into.add(node[begins], least[begins])
        self._remove()
        return moved

    def leaders(self) -> Iterator[npt.NDArray[np.uint64]]:
        """Each node with the one it is linked to, once all are stars."""
        import numpy as np

        for part in range(len(self._paths)):
            links = self._read(self._paths, part)
            if len(links):
                links = np.unique(links, axis=0)
                # A centre has only itself; others have the centre, and were never linked with themselves since.
                node = links[:, 0]
                begins = np.flatnonzero(np.concatenate([[True], node[1:] != node[:-1]]))
                yield np.column_stack([node[begins], np.minimum.reduceat(links[:, 1], begins)])

    def _append(self, paths: list[str], node: npt.NDArray[np.uint64], other: npt.NDArray[np.uint64]) -> None:
        import numpy as np

        scatter(paths, np.column_stack([node, other]), node)

    def _read(self, paths: list[str], part: int) -> npt.NDArray[np.uint64]:
        import numpy as np

        if not os.path.exists(paths[part]):  # noqa: PTH110
            return np.zeros((0, 2), np.uint64)
        return np.fromfile(paths[part], np.uint64).reshape(-1, 2)

    def _remove(self) -> None:
        for path in (*self._paths, *self._both):
            if os.path.exists(path):  # noqa: PTH110
                os.unlink(path)  # noqa: PTH108
