"""The column of encoded images, row by row, without a copy.

What enters: a table with `image` as binary, or as Hugging Face's struct<bytes, path>. What leaves: the bytes of each
row, where they lie. Invariant: bytes are never changed; a null stays null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

IMAGE: Final = "image"
WIDTH: Final = "width"
HEIGHT: Final = "height"
PATH: Final = "path"


def images(values: pa.ChunkedArray) -> Iterator[memoryview | None]:
    """Each image's bytes, one at a time; None for a null."""
    for value in values:
        yield memoryview(value.as_buffer()) if value.is_valid else None
