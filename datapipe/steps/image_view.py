"""How a picture of any size becomes pixels of one size: which part is seen, turned which way, in which colours.

What enters: encoded images, their row ids and keys. What leaves: uint8 [H, W, 3] each, written where the caller says.
Invariant: a picture is a function of its bytes, the options and (seed, epoch, row id): the same offline and online, in
any batch, on any thread. A JPEG is decoded no larger than the part that is seen needs; then that part is cut out and
resampled once, antialiased (Pillow's, without the interpreter's lock).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, final

from datapipe.errors import ConfigError, DecodeError
from datapipe.steps.draws import uniforms
from datapipe.steps.image_colours import MOST_MAGNITUDE, augmented, jittered
from datapipe.steps.image_decode import decode_image
from datapipe.steps.image_head import MAX_PIXELS, read_head
from datapipe.steps.options import in_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.step import Keys

_TRIES: Final = 10
"""Parts that are drawn until one fits (as torchvision's RandomResizedCrop, after Szegedy et al. 2015)."""


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """Options of how pictures are looked at.

    Attributes:
        size: pixels of the square that leaves, or [height, width].
        crop: "random": a part of a drawn area and shape, somewhere (for training). "middle": the largest part of the
            shape asked for, less a margin (for evaluation). "whole": all of it, squeezed.
        area: least and largest share of the picture that a random part covers.
        ratio: least and largest width by height of a random part.
        keep: of the middle, the share of each side that is seen: 224 of 256 as a rule.
        flip: chance of each picture to be mirrored left to right.
        brightness, contrast, saturation: each is changed by a factor from 1 - x to 1 + x; hue: by -x to x of the
            colour circle, at most 0.5. In an order that is drawn, as torchvision's ColorJitter.
        rand_augment: operations that each picture is given, drawn from the fourteen of RandAugment (Cubuk et al. 2019);
            magnitude: their strength, 0 to 30.
        resample: "bilinear" or "bicubic".
        max_pixels: a picture with more is refused, before a pixel is decoded.
    """

    size: int | tuple[int, ...] = 224
    crop: Literal["random", "middle", "whole"] = "middle"
    area: tuple[float, ...] = (0.08, 1.0)
    ratio: tuple[float, ...] = (3 / 4, 4 / 3)
    keep: float = 0.875
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rand_augment: int = 0
    magnitude: int = 9
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        sides = (self.size,) if isinstance(self.size, int) else self.size
        if len(sides) not in {1, 2} or not all(isinstance(side, int) and 1 <= side <= 65_535 for side in sides):
            raise ConfigError(f"size = {self.size!r}", expected="pixels from 1 to 65535, or [height, width]")
        for name, value, most in (("area", self.area, 1.0), ("ratio", self.ratio, 100.0)):
            if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
                raise ConfigError(
                    f"{name} = {list(value)}", expected=f"two numbers above 0 and at most {most:g}, the lower one first"
                )
        for name, allowed in (("crop", ("random", "middle", "whole")), ("resample", ("bilinear", "bicubic"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} = {getattr(self, name)!r}", expected=" or ".join(map(repr, allowed)))
        in_range("keep", self.keep, 0.01, 1)
        in_range("flip", self.flip, 0, 1)
        for name in ("brightness", "contrast", "saturation"):
            in_range(name, getattr(self, name), 0, 10)
        in_range("hue", self.hue, 0, 0.5)
        in_range("rand_augment", self.rand_augment, 0, 14)
        in_range("magnitude", self.magnitude, 0, MOST_MAGNITUDE)
        in_range("max_pixels", self.max_pixels, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of what leaves."""
        if isinstance(self.size, int):
            return self.size, self.size, 3
        return self.size[0], self.size[-1], 3

    @property
    def jitters(self) -> bool:
        """Whether colours are changed by chance."""
        return bool(self.brightness or self.contrast or self.saturation or self.hue)


@final
class Looks:
    """The draws of some rows, made at once: `look` then writes one of them after the other.

    Args:
        ids: row ids; keys: seed and epoch.
    """

    def __init__(self, view: ImageView, ids: Sequence[str], keys: Keys) -> None:
        self._view = view
        if view.crop == "random":
            self._crop = uniforms(ids, keys, "image.crop", 2 * _TRIES + 2).tolist()
        if view.flip:
            self._flip = uniforms(ids, keys, "image.flip", 1)[:, 0].tolist()
        if view.jitters:
            self._jitter = uniforms(ids, keys, "image.jitter", 8).tolist()
        if view.rand_augment:
            self._augment = uniforms(ids, keys, "image.rand_augment", 2 * view.rand_augment).tolist()

    def look(self, row: int, data: bytes | memoryview | None, out: npt.NDArray[np.uint8]) -> None:
        """Write row `row`'s picture into `out`, uint8 of the view's shape.

        Raises:
            DecodeError: it cannot be decoded, or is None; `out` is then as it was.
            ConfigError: a decoder is not installed.
        """
        import numpy as np
        from PIL import Image

        view = self._view
        height, width, _ = view.shape
        if data is None:
            raise DecodeError("a null where an image is", reason="empty", expected="an encoded image")
        head = read_head(data)
        top, left, down, across = self._part(row, head.height, head.width)
        enough = (math.ceil(head.height * height / down), math.ceil(head.width * width / across))
        pixels = decode_image(data, enough, max_pixels=view.max_pixels, head=head)
        # In pixels of what was decoded, which may be smaller than the picture.
        shrunk_down, shrunk_across = pixels.shape[0] / head.height, pixels.shape[1] / head.width
        top, down, left, across = top * shrunk_down, down * shrunk_down, left * shrunk_across, across * shrunk_across
        first, begin = math.floor(top), math.floor(left)
        seen = pixels[first : math.ceil(top + down), begin : math.ceil(left + across)]
        image = Image.fromarray(seen)
        box = (left - begin, top - first, left - begin + across, top - first + down)
        # Rounding may take the box past the edge by a last bit, which Pillow refuses.
        box = (box[0], box[1], min(box[2], seen.shape[1]), min(box[3], seen.shape[0]))
        filtered = Image.Resampling.BICUBIC if view.resample == "bicubic" else Image.Resampling.BILINEAR
        image = image.resize((width, height), filtered, box=box)
        if view.flip and self._flip[row] < view.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if view.rand_augment:
            image = augmented(image, self._augment[row], view.magnitude)
        if view.jitters:
            image = jittered(
                image, self._jitter[row],
                brightness=view.brightness, contrast=view.contrast, saturation=view.saturation, hue=view.hue,
            )  # fmt: skip
        out[:] = np.asarray(image)

    def _part(self, row: int, height: int, width: int) -> tuple[float, float, float, float]:
        """(top, left, height, width) of what is seen of a picture of height × width."""
        view = self._view
        if view.crop == "whole":
            return 0, 0, height, width
        if view.crop == "middle":
            shape = view.shape[1] / view.shape[0]
            down, across = view.keep * min(height, width / shape), view.keep * min(width, height * shape)
            return (height - down) / 2, (width - across) / 2, down, across
        draws = self._crop[row]
        low, high = math.log(view.ratio[0]), math.log(view.ratio[1])
        for at in range(0, 2 * _TRIES, 2):
            area = height * width * (view.area[0] + draws[at] * (view.area[1] - view.area[0]))
            ratio = math.exp(low + draws[at + 1] * (high - low))
            across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                return int(draws[-2] * (height - down + 1)), int(draws[-1] * (width - across + 1)), down, across
        # A picture so long that none fits: the middle, as much of it as the ratios allow.
        ratio = min(max(width / height, view.ratio[0]), view.ratio[1])
        down, across = min(height, width / ratio), min(width, height * ratio)
        return (height - down) / 2, (width - across) / 2, down, across
