"""image_pixels: encoded pictures become pixels of one size, ahead of training or as batches are read.

What enters: `row_id`, `image` (encoded bytes). What leaves: `image` as Arrow's fixed-shape tensor, uint8 [H, W, 3].
Invariant: pixels are those of `datapipe.Images` for the same seed, epoch and row ids (both are `image_view`). A picture
that cannot be decoded is quarantined with its reason.

Pixels take ten times the room of JPEGs: it pays where the disk is fast, decoding is what the training waits for, and
one view of each picture is enough. `datapipe cut` says whether. Write them as `output: {format: arrow}`: Parquet keeps
each in four bytes, and its writer takes eleven bytes of memory for each of a row group.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.errors import DecodeError
from datapipe.steps.columns import file_bytes, mark, row_ids, set_column
from datapipe.steps.image_bytes import IMAGE, images
from datapipe.steps.image_head import REASONS
from datapipe.steps.image_view import ImageView, Looks
from datapipe.steps.step import ROW_ID, StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step


def image_pixels(table: pa.Table, keys: Keys, *, options: ImageView) -> pa.Table:
    """Decode, cut out, resample and change by chance.

    Args:
        table: `row_id: string, image: binary` or struct<bytes, path>.
        keys: seed and epoch.
        options: see ImageView.

    Returns:
        The table with `image` as fixed_shape_tensor<uint8>[H, W, 3]; rows whose picture cannot be decoded are marked
        quarantine with a reason of `image_head.REASONS` after "image_", as image_check's are, and black.

    Raises:
        ConfigError: there is no such column, or a decoder is not installed.
    """
    import numpy as np
    import pyarrow as pa

    ids = row_ids(table).to_pylist()
    pixels = np.empty((len(ids), *options.shape), np.uint8)
    looks = Looks(options, ids, keys)
    reasons: list[str | None] = [None] * len(ids)
    for row, data in enumerate(images(file_bytes(table, IMAGE))):
        try:
            looks.look(row, data, pixels[row])
        except DecodeError as error:
            reasons[row] = f"image_{error.reason}"
            pixels[row] = 0
    kind = pa.fixed_shape_tensor(pa.uint8(), options.shape)
    storage = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), int(np.prod(options.shape)))
    table = set_column(table, IMAGE, pa.ExtensionArray.from_storage(kind, storage.cast(kind.storage_type)))
    return mark(table, pa.array(reasons, pa.string()), quarantine=True)


def row_bytes(options: ImageView) -> int:
    """Bytes of one row's pixels."""
    return math.prod(options.shape)


def build(options: ImageView) -> Step:
    """The step with its options bound."""
    return partial(image_pixels, options=options)


SPEC: Final = StepSpec(
    name="image_pixels",
    version=2,
    kind="map",
    options=ImageView,
    build=build,
    summary="pictures as pixels of one size: a part cut out, flipped, jittered, by chance or not",
    reasons=tuple(f"image_{reason}" for reason in REASONS),
    needs=(ROW_ID, IMAGE),
    gives=(IMAGE,),
    row_bytes=row_bytes,
)
