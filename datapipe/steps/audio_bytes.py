"""The column of encoded sounds: read from any layout as bytes, row by row.

What enters: a table with `audio` as binary, or as Hugging Face's struct<bytes, path>. What leaves: the same column as
large_binary, its sounds one by one. Invariant: bytes are never changed; a null stays null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.steps.columns import column

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

AUDIO: Final = "audio"
SAMPLES: Final = "samples"
RATE: Final = "sample_rate"
FRAMES: Final = "frames"
CHANNELS: Final = "channels"
SECONDS: Final = "seconds"


def audio_column(table: pa.Table) -> pa.ChunkedArray:
    """`audio` as large_binary.

    Raises:
        ConfigError: there is no such column, or it holds neither bytes nor a struct with a field `bytes`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if AUDIO in table.column_names:
        values = table.column(AUDIO)
        if pa.types.is_struct(values.type) and values.type.get_field_index("bytes") >= 0:
            table = pa.table({AUDIO: pc.struct_field(values, "bytes")})
    return column(table, AUDIO, pa.large_binary())


def sounds(values: pa.ChunkedArray) -> Iterator[bytes | None]:
    """Each sound's bytes, one at a time; None for a null."""
    for value in values:
        yield value.as_py()
