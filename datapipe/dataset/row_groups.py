"""The blocks of a dataset as a sequence, for who looks at them one by one.

What enters: an index. What leaves: where a block is, and how large. Invariant: elements are made when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final, overload

if TYPE_CHECKING:
    from datapipe.dataset.index import DatasetIndex


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """One block: its shard's path, its number there, its rows, and its uncompressed bytes."""

    path: str
    group: int
    rows: int
    bytes: int


@final
class RowGroups(Sequence[RowGroup]):
    """The blocks of a dataset as a sequence; elements are made when asked for."""

    def __init__(self, index: DatasetIndex) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, at: int) -> RowGroup: ...
    @overload
    def __getitem__(self, at: slice) -> list[RowGroup]: ...
    def __getitem__(self, at: int | slice) -> RowGroup | list[RowGroup]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        index = self._index
        return RowGroup(
            path=index.paths[index.shard[at]],
            group=int(index.group[at]),
            rows=int(index.rows[at]),
            bytes=int(index.bytes[at]),
        )
