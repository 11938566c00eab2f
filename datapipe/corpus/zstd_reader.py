"""Zstandard frames, decompressed in bounded steps, with an error where the last one is cut.

Neither library at hand does both: zstandard's stream reader takes a cut frame for a finished one, and Arrow's loses
what it had decompressed when it meets the cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Final, final

from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.reasons import DAMAGED_FILE, TRUNCATED_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

# A block of 128 KiB may take 4 bytes (RFC 8878, section 3.1.1.2.2), so that 256 bytes of a bomb become 8 MiB at most.
_STEP: Final = 256
_FETCH: Final = 1 << 18


@final
class ZstdReader:
    """Reads on, in one direction, over any number of frames, skippable ones included."""

    def __init__(self, source: BinaryIO) -> None:
        self._parts = self._decompressed(source)
        self._rest = memoryview(b"")
        self._fault: FileFault | None = None

    def read(self, size: int) -> bytes:
        """At least one and at most `size` bytes; b"" at the end.

        Raises:
            FileFault: the file is cut or damaged here.
        """
        if not self._rest:
            if self._fault is not None:
                raise self._fault
            parts: list[bytes] = []
            held = 0
            try:
                while held < size and (part := next(self._parts, b"")):
                    parts.append(part)
                    held += len(part)
            except FileFault as fault:
                if not held:
                    raise
                self._fault = fault  # what came before it first
            self._rest = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
        out, self._rest = self._rest[:size], self._rest[size:]
        return bytes(out)

    def _decompressed(self, source: BinaryIO) -> Iterator[bytes]:
        import zstandard

        context = zstandard.ZstdDecompressor()
        frame: Any = None
        while block := source.read(_FETCH):
            for at in range(0, len(block), _STEP):
                data = block[at : at + _STEP]
                while data:
                    frame = frame or context.decompressobj()
                    try:
                        out = frame.decompress(data)
                    except zstandard.ZstdError as error:
                        raise FileFault(DAMAGED_FILE, str(error)) from None
                    if out:
                        yield out
                    data = b""
                    if frame.eof:
                        data, frame = frame.unused_data, None
        if frame is not None:
            raise FileFault(TRUNCATED_FILE, "the last zstd frame has no end")
