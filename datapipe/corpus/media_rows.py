"""Rows of media (images, sounds) one by one enter, batches bounded in bytes leave.

A row is the encoded bytes, as they were stored, in a column called after the medium (`image` or `audio`:
large_binary), `path: large_string`, `label: large_string` where there is one (null elsewhere), and further fields.

Invariant: every row that is added comes out once, in order, and so does every quarantined one. Nothing is decoded
here: what the bytes are is for a step to say, and hostile ones reach no decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from datapipe.corpus.options import ALL, MEDIA_COLUMNS
from datapipe.corpus.piece import Batch, Quarantined
from datapipe.corpus.reasons import MALFORMED_ROW, MISSING_ID
from datapipe.corpus.rows import EXCERPT, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.corpus.options import ReadOptions

IMAGE_SUFFIXES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
    ".jp2", ".avif", ".ico", ".tga",
)  # fmt: skip
AUDIO_SUFFIXES: Final = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".w64", ".caf",
)  # fmt: skip
MOST_FIELDS: Final = 1024
"""Further fields that the rows of one file may have together: each costs a column of every batch."""
_ROW_OVERHEAD: Final = 200
_MOST_QUARANTINED: Final = 10_000


@final
class MediaRows:
    """Collects the rows of one piece.

    Args:
        options: the medium, the bounds and the columns.
        name: what row ids begin with.
    """

    def __init__(self, options: ReadOptions, name: str) -> None:
        assert options.media is not None
        self._options = options
        self._name = name
        self._ids: list[str] = []
        self._media: list[bytes] = []
        self._paths: list[str] = []
        self._labels: list[str | None] = []
        self._more: list[Mapping[str, str | bytes | None]] = []
        # Kinds are kept from batch to batch: of a column that no row of a batch has, the type is still known.
        self._kinds: dict[str, type] = {}
        self._fixed = {"row_id", str(options.media), *MEDIA_COLUMNS}
        self._quarantined: list[Quarantined] = []
        self._bytes = 0

    def row_id(self, position: int) -> str:
        """The id of the row at a position."""
        return f"{self._name}:{position}"

    def add(
        self,
        position: int,
        media: bytes,
        path: str,
        label: str | None = None,
        more: Mapping[str, str | bytes | None] | None = None,
    ) -> None:
        """One row; `more`: its further fields by name, texts or bytes, of which those asked for are taken."""
        more = more or {}
        row_id = self.row_id(position)
        if self._options.id_column is not None:
            own = label if self._options.id_column == "label" else more.get(self._options.id_column)
            if not isinstance(own, str) or not own:
                self.quarantine(position, MISSING_ID, f"no value for {self._options.id_column!r}", path)
                return
            row_id = own
        # What nobody asked for is let go here, not with the batch: members of a tar may be larger than its pictures.
        fields = {name: more[name] for name in self._options.named(more) if name in more and name not in self._fixed}
        if not self._columns_fit(fields):
            self.quarantine(position, MALFORMED_ROW, f"more than {MOST_FIELDS:,} fields in one file", path)
            return
        self._ids.append(row_id)
        self._media.append(media)
        self._paths.append(path)
        self._labels.append(label)
        self._more.append(fields)
        self._bytes += len(media) + sum(len(each) for each in fields.values() if each) + _ROW_OVERHEAD

    def _columns_fit(self, fields: Mapping[str, str | bytes | None]) -> bool:
        whole = self._options.columns == ALL
        new = {
            name: bytes if isinstance(value, bytes) else str
            for name, value in fields.items()
            if name not in self._kinds and (whole or value is not None)
        }
        if whole and len(self._kinds) + len(new) > MOST_FIELDS:
            return False
        self._kinds |= new
        return True

    def quarantine(self, position: int, reason: str, detail: str, excerpt: bytes | str = "") -> None:
        """One row that could not be read."""
        self._quarantined.append(
            Quarantined(
                row_id=self.row_id(position), reason=reason, detail=detail[:EXCERPT], excerpt=shortened(excerpt)
            )
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

        text, raw = pa.large_string(), pa.large_binary()
        arrays: dict[str, Any] = {
            "row_id": pa.array(self._ids, pa.string()),
            str(self._options.media): pa.array(self._media, raw),
            "path": pa.array(self._paths, text),
            "label": pa.array(self._labels, text),
        }
        for name in self._options.named(self._kinds):
            # A field that is text in one row and bytes in another has the type of the first.
            kind = self._kinds.get(name, str)
            values = [each if isinstance(each := more.get(name), kind) else None for more in self._more]
            if name not in arrays:
                arrays[name] = pa.array(values, raw if kind is bytes else text)
        table = pa.Table.from_arrays(list(arrays.values()), list(arrays))
        batch = Batch(table=table, quarantined=tuple(self._quarantined))
        self._ids, self._media, self._paths, self._labels, self._more, self._quarantined = [], [], [], [], [], []
        self._bytes = 0
        return batch
