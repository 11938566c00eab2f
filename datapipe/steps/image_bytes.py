"""The column of encoded images, row by row, without a copy.

What enters: a table with `image` as binary, or as Hugging Face's struct<bytes, path>. What leaves: the bytes of each
row, where they lie. Invariant: bytes are never changed; a null stays null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.steps.columns import column

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

IMAGE: Final = "image"
WIDTH: Final = "width"
HEIGHT: Final = "height"
PATH: Final = "path"


def image_column(table: pa.Table) -> pa.ChunkedArray:
    """`image` as large_binary.

    Raises:
        ConfigError: there is no such column, or it holds neither bytes nor a struct with a field `bytes`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if IMAGE in table.column_names:
        values = table.column(IMAGE)
        if pa.types.is_struct(values.type) and values.type.get_field_index("bytes") >= 0:
            table = pa.table({IMAGE: pc.struct_field(values, "bytes")})
    return column(table, IMAGE, pa.large_binary())


def images(values: pa.ChunkedArray) -> Iterator[memoryview | None]:
    """Each image's bytes, one at a time; None for a null."""
    for value in values:
        yield memoryview(value.as_buffer()) if value.is_valid else None
