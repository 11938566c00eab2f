"""A stream of bytes as the file that `tarfile` reads: forwards only, nothing large at once.

What enters: a `ByteStream`. What leaves: members, one after the other, and the content of the one at hand.
Invariant: whatever a header says, no more is read at once than was asked for by `content`, or `HEADER` bytes: tarfile
would read an extended header of any size that it declares into memory. Every fault of a file is a `FileFault`; one that
lacks the blocks that end a tar is cut, also between members.
"""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Final, cast, final

from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.reasons import DAMAGED_FILE, TRUNCATED_FILE
from datapipe.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from datapipe.corpus.byte_stream import ByteStream

HEADER: Final = 64 << 10
"""Bytes of an extended header (pax records, a long name); real ones have a few hundred."""
_BLOCK: Final = 512
_MOST_RECORDS: Final = 4096
_MOST_PADDING: Final = 16 << 20
"""Bytes of zeros behind the end that are looked through; tar pads to 10 kB unless it is told otherwise."""
_PART: Final = 1 << 20
_ZEROS: Final = bytes(_BLOCK)


@final
class _Forward(io.RawIOBase):
    """Seeks forwards by reading, and backwards by the one byte that tarfile looks at between members."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._at = 0
        self._held = b""
        self.most = HEADER
        self.last = b""

    def readable(self) -> bool:
        """See io."""
        return True

    def seekable(self) -> bool:
        """See io."""
        return True

    def tell(self) -> int:
        """See io."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """To a place that was not passed yet, or the byte just passed.

        Raises:
            FileFault: it lies further back: a size in a header was negative.
        """
        assert whence == 0
        if offset == self._at - 1 and self.last:
            self._held = self.last[-1:] + self._held
            self.last = self.last[:-1]
            self._at = offset
        elif offset < self._at:
            raise FileFault(DAMAGED_FILE, "a header leads backwards")
        while self._at < offset:
            if not self._some(min(_PART, offset - self._at)):
                break
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end.

        Raises:
            FileFault: more than `most` are asked for.
        """
        if size is None or size < 0 or size > self.most:
            raise FileFault(DAMAGED_FILE, f"a header of {size:,} bytes; at most {self.most:,} are read")
        parts: list[bytes] = []
        left = size
        while left:
            part = self._some(min(left, _PART))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, size: int) -> bytes:
        if self._held:
            part, self._held = self._held[:size], self._held[size:]
        else:
            part = self._stream.read(size)
        if part:
            self._at += len(part)
            self.last = (self.last + part)[-_BLOCK:] if len(part) < _BLOCK else part[-_BLOCK:]
        return part


@final
class TarStream:
    """The members of a tar file, in order."""

    def __init__(self, stream: ByteStream) -> None:
        self._file = _Forward(stream)

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Each member once; before the next is asked for, `content` may be read.

        Raises:
            FileFault: the file is cut or damaged here.
        """
        archive: tarfile.TarFile | None = None
        while True:
            try:
                if archive is None:
                    archive = tarfile.TarFile(
                        fileobj=cast("IO[bytes]", self._file), mode="r", errors="surrogateescape", encoding="utf-8"
                    )
                member = archive.next()
            except (FileFault, StorageError):
                raise
            except (tarfile.TarError, EOFError) as error:
                cut = "unexpected end" in str(error) or "truncated" in str(error) or "empty" in str(error)
                raise FileFault(TRUNCATED_FILE if cut else DAMAGED_FILE, str(error)) from None
            except (ValueError, OverflowError, RecursionError, LookupError, TypeError, AttributeError) as error:
                # A header that tarfile does not expect: a chain of extended ones, numbers that are none.
                raise FileFault(DAMAGED_FILE, f"{type(error).__name__} in a header: {error}") from None
            if member is None:
                break
            vars(archive)["members"] = []  # tarfile would keep them all
            if len(archive.pax_headers) > _MOST_RECORDS:
                raise FileFault(DAMAGED_FILE, f"more than {_MOST_RECORDS:,} global header records")
            yield member
        if self._file.last != _ZEROS:
            if self._file.read(1):
                raise FileFault(DAMAGED_FILE, "a block that is no header where one should be")
            raise FileFault(TRUNCATED_FILE, "it ends without the blocks that end a tar file")

    def check_end(self) -> None:
        """See that nothing but zeros follows the last member: tarfile stops there without a word.

        Raises:
            FileFault: it goes on, as archives do that were put one behind the other.
        """
        for _ in range(_MOST_PADDING // HEADER):
            part = self._file.read(HEADER)
            if part.strip(b"\0"):
                raise FileFault(DAMAGED_FILE, "it goes on behind the blocks that end a tar file: another one, maybe")
            if not part:
                return

    def content(self, member: tarfile.TarInfo) -> bytes:
        """The bytes of the member that was given last.

        Raises:
            FileFault: the file is cut in it.
        """
        self._file.seek(member.offset_data)
        self._file.most = member.size
        try:
            data = self._file.read(member.size)
        finally:
            self._file.most = HEADER
        if len(data) < member.size:
            raise FileFault(TRUNCATED_FILE, f"{member.name!r} has {len(data):,} of its {member.size:,} bytes")
        return data
