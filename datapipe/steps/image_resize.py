"""image_resize: pictures made smaller ahead of training: the shorter side to a given length, encoded anew.

What enters: `image` (encoded bytes). What leaves: the same rows, larger pictures decoded, scaled down and encoded again
(JPEG stays JPEG, all else becomes PNG), with `width` and `height: int32` of what is there now. Invariant: a picture
whose shorter side is no longer than asked keeps its bytes; none is enlarged; one that cannot be decoded keeps its bytes
and has no width: `image_check` is what quarantines.

A JPEG is decoded at the least scale that is at least twice as large as wanted, where there is one, and then resampled
(Pillow's antialiased bicubic). Without an option that says so nothing is resized: what it costs and saves is for
`datapipe cut` to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.errors import DecodeError
from datapipe.steps.columns import file_bytes, set_column
from datapipe.steps.image_bytes import HEIGHT, IMAGE, WIDTH, images
from datapipe.steps.image_encode import QUALITY, encode_image, form_for
from datapipe.steps.image_head import MAX_PIXELS, read_head
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step


@dataclass(frozen=True, kw_only=True)
class ImageResizeOptions:
    """Options of image_resize.

    Attributes:
        shorter: the length of the shorter side in pixels; 0: nothing is resized.
        quality: of JPEGs, 1 to 100.
        max_pixels: a picture with more is left as it is, before a pixel is decoded.
    """

    shorter: int = 0
    quality: int = QUALITY
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        in_range("image_resize.shorter", self.shorter, 0, 65_500)
        in_range("image_resize.quality", self.quality, 1, 100)
        in_range("image_resize.max_pixels", self.max_pixels, 1)


def image_resize(table: pa.Table, keys: Keys, *, options: ImageResizeOptions) -> pa.Table:
    """Scale pictures down.

    Args:
        table: `image: large_binary`.
        keys: not used.
        options: see ImageResizeOptions.

    Returns:
        The table with `image: large_binary`, `width` and `height: int32`.

    Raises:
        ConfigError: a decoder is not installed.
    """
    del keys
    import pyarrow as pa

    if not options.shorter:
        return table
    made = [_resized(data, options) for data in images(file_bytes(table, IMAGE))]
    for place, (name, kind) in enumerate(((IMAGE, pa.large_binary()), (WIDTH, pa.int32()), (HEIGHT, pa.int32()))):
        table = set_column(table, name, pa.array([row[place] for row in made], kind))
    return table


def _resized(
    data: memoryview | None, options: ImageResizeOptions
) -> tuple[bytes | memoryview | None, int | None, int | None]:
    """(bytes, width, height) of one picture."""
    import numpy as np
    from PIL import Image

    from datapipe.steps.image_decode import decode_image

    try:
        head = read_head(data if data is not None else b"")
        width, height = head.width, head.height
        if min(width, height) <= options.shorter:
            return data, width, height
        assert data is not None
        scale = options.shorter / min(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = decode_image(data, (2 * height, 2 * width), max_pixels=options.max_pixels, head=head)
    except DecodeError:
        return data, None, None
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return encode_image(np.asarray(small), form_for(head.format), options.quality), width, height


def resolve(spec: StepSpec, options: ImageResizeOptions) -> StepSpec:
    """Where nothing is resized, nothing is given."""
    return replace(spec, gives=(IMAGE, WIDTH, HEIGHT)) if options.shorter else spec


def build(options: ImageResizeOptions) -> Step:
    """The step with its options bound."""
    return partial(image_resize, options=options)


SPEC: Final = StepSpec(
    name="image_resize",
    version=1,
    kind="map",
    options=ImageResizeOptions,
    build=build,
    summary="larger pictures scaled to a shorter side and encoded anew; 0: as they are",
    needs=(IMAGE,),
    resolve=resolve,
)
