"""A piece enters, batches of its rows leave: the one door to every reader.

Invariant: whatever the bytes are, a piece ends in batches. What cannot be read is quarantined with its reason, a file
that is gone or forbidden included; only storage that fails in passing raises, so that no row is lost to a bad network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.formats import FORMATS
from datapipe.corpus.options import ReadOptions
from datapipe.corpus.reasons import CHANGED_FILE, TRUNCATED_FILE, UNREADABLE_FILE
from datapipe.corpus.rows import Rows
from datapipe.errors import AccessError, ConfigError, IntegrityError, NotFoundError
from datapipe.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store


def read_piece(
    piece: Piece,
    *,
    options: ReadOptions | None = None,
    storage_options: Mapping[str, Any] | None = None,
    store: Store | None = None,
) -> Iterator[Batch]:
    """The rows of a piece, in order, in batches bounded by `options.max_batch_bytes`.

    A file that changed since it was discovered is quarantined whole ("changed_file"): pieces cut from the old file
    mean nothing in the new one. `store`: that of the file's root, where it is open already.

    Raises:
        ConfigError: the format is not known.
        StorageError: the storage failed otherwise than by refusing or lacking the file; another attempt may succeed.
    """
    options = options or ReadOptions()
    entry = FORMATS.get(piece.file.format)
    if entry is None:
        raise ConfigError(f"format {piece.file.format!r}", expected=f"one of {', '.join(FORMATS)}")
    try:
        store = store or open_store(piece.file.root, storage_options=storage_options)
        _check_unchanged(store, piece)
        yield from entry.reader(store, piece, options)
    except FileFault as fault:
        yield _file_quarantined(piece, options, fault)
    except (NotFoundError, AccessError) as error:
        yield _file_quarantined(piece, options, FileFault(UNREADABLE_FILE, error.got))
    except IntegrityError as error:
        yield _file_quarantined(piece, options, FileFault(TRUNCATED_FILE, error.got))


def _check_unchanged(store: Store, piece: Piece) -> None:
    found = store.info(piece.file.path)
    if piece.file.etag and found.etag != piece.file.etag:
        raise FileFault(CHANGED_FILE, f"it had {piece.file.size:,} bytes when it was found and has {found.size:,} now")


def _file_quarantined(piece: Piece, options: ReadOptions, fault: FileFault) -> Batch:
    rows = Rows(options, piece.file.name, media_type=options.media_type)
    position = piece.start if fault.position is None else fault.position
    rows.quarantine(rows.row_id(position), fault.reason, fault.detail, fault.excerpt)
    return rows.take()
