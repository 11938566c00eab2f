"""What became of each row of one split, over all stages, as arrays.

What enters: the signals files of a split. What leaves: one element per row that the reader made. Invariant: a row has
one fate at most, that of the stage it went in; what the reader could not read is counted and has no element.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.preprocess.stored_run import StageFile, StoredRun

KEPT: Final = -1
PASSES: Final = -2
"""Of `retune`: the row passes now, and later steps have not measured it."""
_FATE_COLUMNS: Final = ("position", "step", "kind", "reason")


@dataclass(frozen=True, kw_only=True, order=True)
class Fate:
    """Why a row went."""

    step: str
    kind: str
    reason: str


@final
class Fates:
    """Fates by number, shared by the splits of a dataset."""

    def __init__(self) -> None:
        self.known: list[Fate] = []
        self._number: dict[Fate, int] = {}

    def number(self, step: str, kind: str, reason: str) -> int:
        """The number of a fate."""
        fate = Fate(step=step, kind=kind, reason=reason)
        if fate not in self._number:
            self._number[fate] = len(self.known)
            self.known.append(fate)
        return self._number[fate]

    def encoded(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """Of each row its fate's number, or `KEPT`: int64[n]."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = [pc.fill_null(table.column(name), "") for name in ("step", "kind", "reason")]
        joined = pc.binary_join_element_wise(*columns, "\n").combine_chunks()
        joined = pa.chunked_array([joined]) if not isinstance(joined, pa.ChunkedArray) else joined
        coded = joined.dictionary_encode().combine_chunks()
        coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
        numbers = [KEPT if word == "\n\n" else self.number(*word.split("\n")) for word in coded.dictionary.to_pylist()]
        if not numbers:
            return np.full(table.num_rows, KEPT)
        found: npt.NDArray[np.int64] = np.array(numbers)[coded.indices.to_numpy()]
        return found


@final
@dataclass(frozen=True, kw_only=True)
class StageFates:
    """One stage's part.

    Attributes:
        table: the file's columns that were asked for, rows with a position alone.
        position: int64[rows]. fate: int64[rows], numbers of `Fates`.
    """

    file: StageFile
    table: pa.Table = field(repr=False)
    position: npt.NDArray[np.int64] = field(repr=False)
    fate: npt.NDArray[np.int64] = field(repr=False)


@final
@dataclass(frozen=True, kw_only=True)
class SplitFates:
    """The rows of one split.

    Attributes:
        fate: int64[n], by position. bytes: int64[n], as read; 0 where not known.
        tokens: int64[n], -1 where not known.
        unread: of rows that the reader quarantined, how many by fate number.
    """

    split: int
    stages: tuple[StageFates, ...]
    fate: npt.NDArray[np.int64] = field(repr=False)
    bytes: npt.NDArray[np.int64] = field(repr=False)
    tokens: npt.NDArray[np.int64] = field(repr=False)
    unread: dict[int, int] = field(default_factory=dict)


def split_fates(run: StoredRun, split: int, fates: Fates, columns: Sequence[str] = ()) -> SplitFates:
    """Read one split.

    Args:
        columns: further columns, which the stages' tables hold where their files do.
    """
    import numpy as np
    import pyarrow.compute as pc

    stages = []
    unread: dict[int, int] = {}
    for file in run.files[split]:
        table = run.table(file, [*_FATE_COLUMNS, "bytes", "n_tokens", *columns])
        there = pc.is_valid(table.column("position"))
        if not pc.all(there).as_py() and table.num_rows:
            for number in fates.encoded(table.filter(pc.invert(there))).tolist():
                unread[number] = unread.get(number, 0) + 1
            table = table.filter(there)
        position = table.column("position").to_numpy().astype(np.int64)
        stages.append(StageFates(file=file, table=table, position=position, fate=fates.encoded(table)))
    n = max((int(stage.position.max()) + 1 for stage in stages if len(stage.position)), default=0)
    fate, size, tokens = np.full(n, KEPT), np.zeros(n, np.int64), np.full(n, -1)
    for stage in stages:
        gone = stage.fate != KEPT
        fate[stage.position[gone]] = stage.fate[gone]
        for name, into, null in (("bytes", size, 0), ("n_tokens", tokens, -1)):
            if name in stage.table.column_names and stage.table.column(name).null_count < stage.table.num_rows:
                into[stage.position] = _numbers(stage.table.column(name), null)
    return SplitFates(split=split, stages=tuple(stages), fate=fate, bytes=size, tokens=tokens, unread=unread)


def _numbers(column: Any, null: int) -> npt.NDArray[np.int64]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values: npt.NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), null).to_numpy().astype(np.int64)
    return values
