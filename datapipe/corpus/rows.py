"""Rows one by one enter, batches bounded in bytes leave.

Invariant: every row that is added comes out once, in order, and so does every quarantined one; no batch is empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from datapipe.corpus.options import ALL
from datapipe.corpus.piece import Batch, Quarantined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datapipe.corpus.options import ReadOptions

EXCERPT: Final = 200
_ROW_OVERHEAD: Final = 100  # bytes that an empty row costs: its id, its objects
_MOST_QUARANTINED: Final = 10_000


@final
class Rows:
    """Collects the rows of one piece.

    Args:
        options: the bounds and the columns.
        name: what row ids begin with.
        media_type: of every row.
        raw: rows are bytes yet to be decoded, not text.
    """

    def __init__(self, options: ReadOptions, name: str, *, media_type: str, raw: bool = False) -> None:
        self._options = options
        self._name = name
        self._media_type = media_type
        self._raw = raw
        self._ids: list[str] = []
        self._texts: list[Any] = []
        self._bad: list[int] = []
        self._more: list[Sequence[str | None] | Mapping[str, str | None]] = []
        self._quarantined: list[Quarantined] = []
        self._bytes = 0

    def row_id(self, position: int) -> str:
        """The id of the row at a position."""
        return f"{self._name}:{position}"

    def add(
        self,
        row_id: str,
        text: str | bytes | None,
        size: int,
        *,
        bad_bytes: int = 0,
        more: Sequence[str | None] | Mapping[str, str | None] = (),
    ) -> None:
        """One row; `size` is about what it takes in bytes, `more` its values for `options.columns`, by name for "*"."""
        self._ids.append(row_id)
        self._texts.append(text)
        self._bad.append(bad_bytes)
        self._more.append(more)
        self._bytes += size + _ROW_OVERHEAD

    def quarantine(self, row_id: str, reason: str, detail: str, excerpt: bytes | str = "") -> None:
        """One row that could not be read."""
        self._quarantined.append(
            Quarantined(row_id=row_id, reason=reason, detail=detail[:EXCERPT], excerpt=shortened(excerpt))
        )

    @property
    def full(self) -> bool:
        """Whether a batch is due."""
        return self._bytes >= self._options.max_batch_bytes or len(self._quarantined) >= _MOST_QUARANTINED

    def __bool__(self) -> bool:
        return bool(self._ids or self._quarantined)

    def take(self) -> Batch:
        """What was collected, as a batch; begins anew."""
        import pyarrow as pa

        n = len(self._ids)
        arrays: dict[str, Any] = {"row_id": pa.array(self._ids, pa.string())}
        if self._options.text_column is not None:
            arrays["media_type"] = pa.repeat(pa.scalar(self._media_type, pa.string()), n)
        if self._options.text_column is None:
            pass
        elif self._raw:
            arrays["raw"] = pa.array(self._texts, pa.large_binary())
        else:
            arrays["text"] = pa.array(self._texts, pa.large_string())
            arrays["bad_bytes"] = pa.array(self._bad, pa.int32())
        for name, values in self._columns():
            arrays[name] = pa.array(values, pa.large_string())
        batch = Batch(table=pa.table(arrays), quarantined=tuple(self._quarantined))
        self._ids, self._texts, self._bad, self._more, self._quarantined = [], [], [], [], []
        self._bytes = 0
        return batch

    def _columns(self) -> Iterator[tuple[str, list[str | None]]]:
        if self._options.columns == ALL:
            found: list[Any] = self._more
            for name in self._options.named(dict.fromkeys(name for more in found for name in more)):
                yield name, [more.get(name) for more in found]
            return
        for i, name in enumerate(self._options.columns):
            listed: list[Any] = self._more
            yield name, [more[i] if more else None for more in listed]


def shortened(value: bytes | str) -> str:
    """At most 200 characters of a value, for people to read."""
    if isinstance(value, bytes):
        value = value[: EXCERPT * 4].decode("utf-8", "replace")
    return value[:EXCERPT].encode("utf-8", "replace").decode("utf-8")
