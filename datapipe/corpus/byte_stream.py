"""A source file's bytes, decompressed as they come.

What enters: a store and a path; .gz and .zst are told by the name. What leaves: blocks of at most the size asked for,
so that a file that expands a thousandfold costs no more memory than another.
Invariant: bytes are given out until the very place where a file is cut or damaged, and then `FileFault` is raised;
an end that looks regular is one.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, final

from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.reasons import DAMAGED_FILE, TRUNCATED_FILE
from datapipe.corpus.zstd_reader import ZstdReader
from datapipe.errors import IntegrityError, StorageError
from datapipe.storage import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datapipe.storage import Store

COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}
BLOCK: Final = 1 << 20


def compression_of(path: str) -> str | None:
    """How a file is compressed, by its name's ending: gzip, zstd or None."""
    lower = path.lower()
    if lower.endswith(".tgz"):
        return "gzip"
    return next((kind for suffix, kind in COMPRESSIONS.items() if lower.endswith(suffix)), None)


@final
class ByteStream:
    """Reads on, in one direction, counting.

    Attributes:
        position: bytes given out so far, of the decompressed stream; plus `start`.
    """

    def __init__(self, read: Callable[[int], bytes], position: int = 0) -> None:
        self._read = read
        self.position = position

    def read(self, size: int = BLOCK) -> bytes:
        """At least one and at most `size` bytes; b"" at the end.

        Raises:
            FileFault: the file is cut ("truncated_file") or damaged ("damaged_file") here.
            StorageError: the storage failed in a way that another attempt may not.
        """
        try:
            data = self._read(size)
        except (FileFault, StorageError) as error:
            if isinstance(error, IntegrityError):
                raise FileFault(TRUNCATED_FILE, error.got, position=self.position) from None
            raise
        except EOFError as error:
            raise FileFault(TRUNCATED_FILE, str(error), position=self.position) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileFault(DAMAGED_FILE, str(error), position=self.position) from None
        except OSError as error:
            # The disk's word: not the file's fault, and no reason to lose its rows.
            raise StorageError(f"reading failed: {mask(str(error))}") from None
        self.position += len(data)
        return data


@contextlib.contextmanager
def open_stream(store: Store, path: str, *, start: int = 0) -> Iterator[ByteStream]:
    """The bytes of one file from `start` on, which must be 0 for a compressed one.

    Raises:
        StorageError: it cannot be opened.
    """
    compression = compression_of(path)
    assert start == 0 or compression is None, "a compressed file is read from its start"
    with contextlib.ExitStack() as stack:
        file: BinaryIO = stack.enter_context(store.open(path))
        reader: Callable[[int], bytes] = file.read
        if compression == "gzip":
            # Python's: it alone bears the zeros with which some tools pad a gzip file.
            # read1: what came before a cut is given out, where `read` would lose it to the error.
            reader = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb")).read1
        elif compression == "zstd":
            reader = ZstdReader(file).read
        elif start:
            file.seek(start)
        yield ByteStream(reader, start)
