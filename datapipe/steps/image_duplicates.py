"""image_duplicates: the row-by-row half, a perceptual hash of each picture; who is near whom is for the corpus.

What enters: `image`. What leaves: the same and `phash: int64`, which `image_check` may have given already: it is then
taken as it is, and nothing is decoded. Invariant: a function of the picture; one that cannot be decoded has none, and
is no one's duplicate.

Two pictures are near duplicates if their hashes (`image_hash`) differ in at most `threshold` of 64 bits, and so are all
that are linked by such pairs. Of hashes that were drawn at random a pair differs in so few with a chance of
3.7e-14 at 4, 4.5e-12 at 6 and 2.8e-10 at 8 (the sum of C(64, k) / 2^64): among 10^6 pictures that is 0.02, 2 and 140
pairs by accident. The same picture in another quality, or scaled to a half, differs in 0 to 2 bits, to a third in up
to 6 (four photographs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from datapipe.errors import DecodeError
from datapipe.steps.columns import file_bytes, set_column
from datapipe.steps.image_bytes import IMAGE, images
from datapipe.steps.image_check import PHASH
from datapipe.steps.image_head import MAX_PIXELS
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

NEAR_DUPLICATE_IMAGE: Final = "near_duplicate_image"
MOST_BITS: Final = 10
"""The largest threshold: hashes are then compared that share 10 or 11 bits, some 600 of 10^6 with each, 66 times."""


@dataclass(frozen=True, kw_only=True)
class ImageDuplicatesOptions:
    """Options of image_duplicates.

    Attributes:
        threshold: bits of 64 in which two near duplicates differ at most.
        survivor: which of those that are linked stays. "first": by its place in the input. "largest": the one of the
            most pixels, of equal ones the first.
        max_pixels: a picture with more is not decoded for its hash.
    """

    threshold: int = 4
    survivor: Literal["first", "largest"] = "first"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        in_range("image_duplicates.threshold", self.threshold, 0, MOST_BITS)
        in_range("image_duplicates.max_pixels", self.max_pixels, 1)


def image_duplicates(table: pa.Table, keys: Keys, *, options: ImageDuplicatesOptions) -> pa.Table:
    """Hash each picture.

    Args:
        table: `image: large_binary`; perhaps `phash: int64`.
        keys: not used.
        options: see ImageDuplicatesOptions.

    Returns:
        The table with `phash: int64`, null where a picture cannot be decoded. No row is marked: the reason
        "near_duplicate_image" is given by whoever sees all hashes.

    Raises:
        ConfigError: a decoder is not installed.
    """
    del keys
    import pyarrow as pa

    if PHASH in table.column_names and table.schema.field(PHASH).type == pa.int64():
        return table
    hashes = [_hash(data, options.max_pixels) for data in images(file_bytes(table, IMAGE))]
    return set_column(table, PHASH, pa.array(hashes, pa.int64()))


def _hash(data: memoryview | None, max_pixels: int) -> int | None:
    from datapipe.steps.image_decode import decode_image
    from datapipe.steps.image_hash import ENOUGH, image_hash

    try:
        # Four pixels for each of the hash, so that a scaled picture is averaged as the whole one is.
        return None if data is None else image_hash(decode_image(data, (ENOUGH, ENOUGH), max_pixels=max_pixels), data)
    except DecodeError:
        return None


def build(options: ImageDuplicatesOptions) -> Step:
    """The step with its options bound."""
    return partial(image_duplicates, options=options)


SPEC: Final = StepSpec(
    name="image_duplicates",
    version=1,
    kind="global",
    options=ImageDuplicatesOptions,
    build=build,
    summary="a perceptual hash of each picture; of pictures that look alike one is kept",
    reasons=(NEAR_DUPLICATE_IMAGE,),
    needs=(IMAGE,),
    gives=(PHASH,),
)
