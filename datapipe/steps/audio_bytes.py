"""The column of encoded sounds: read from any layout as bytes, row by row.

What enters: a table with `audio` as binary, or as Hugging Face's struct<bytes, path>. What leaves: the same column as
large_binary, its sounds one by one. Invariant: bytes are never changed; a null stays null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

AUDIO: Final = "audio"
SAMPLES: Final = "samples"
RATE: Final = "sample_rate"
FRAMES: Final = "frames"
CHANNELS: Final = "channels"
SECONDS: Final = "seconds"


def sounds(values: pa.ChunkedArray) -> Iterator[bytes | None]:
    """Each sound's bytes, one at a time; None for a null."""
    for value in values:
        yield value.as_py()
