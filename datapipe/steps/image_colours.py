"""Colours and shapes changed by chance: jitter, and the operations of RandAugment, all by Pillow.

What enters: an RGB image and numbers in [0, 1) that were drawn for it. What leaves: an RGB image of the same size.
Invariant: the result is a function of these alone. Strengths are those of torchvision's ColorJitter and RandAugment
(`torchvision/transforms/autoaugment.py`, 31 magnitudes), which follow Cubuk et al. 2019, table 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

MOST_MAGNITUDE: Final = 30
_GREY: Final = (128, 128, 128)
"""What comes in where a picture is sheared, moved or turned away from its frame."""


def jittered(
    image: Image, draws: Sequence[float], *, brightness: float, contrast: float, saturation: float, hue: float
) -> Image:
    """Brightness, contrast, saturation and hue changed, in an order that is drawn too.

    Args:
        draws: 8 numbers in [0, 1): how much of each, then the order.
        brightness, contrast, saturation, hue: the ranges, see `ImageView`.
    """
    from PIL import ImageEnhance

    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for which in sorted(range(4), key=lambda each: draws[4 + each]):
        much = 2 * draws[which] - 1
        if which == 3:
            image = _hue_turned(image, much * hue) if hue else image
        elif (most := (brightness, contrast, saturation)[which]) > 0:
            image = kinds[which](image).enhance(max(0.0, 1 + much * most))
    return image


def _hue_turned(image: Image, share: float) -> Image:
    """All hues turned by a share of the circle."""
    from PIL import Image as Pillow

    shift = round(share * 256) % 256
    if not shift:
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return Pillow.merge("HSV", (hue, saturation, value)).convert("RGB")


def augmented(image: Image, draws: Sequence[float], magnitude: int) -> Image:
    """Operations of RandAugment, one after the other.

    Args:
        draws: two numbers in [0, 1) for each: which, and which way.
        magnitude: 0 to MOST_MAGNITUDE, of all.
    """
    names = list(OPERATIONS)
    for at in range(0, len(draws), 2):
        operation = OPERATIONS[names[int(draws[at] * len(names))]]
        image = operation(image, magnitude / MOST_MAGNITUDE, 1 if draws[at + 1] < 0.5 else -1)
    return image


def _moved(image: Image, matrix: tuple[float, ...]) -> Image:
    from PIL import Image as Pillow

    return image.transform(
        image.size, Pillow.Transform.AFFINE, matrix, resample=Pillow.Resampling.BILINEAR, fillcolor=_GREY
    )


def _enhanced(name: str, image: Image, strength: float, way: int) -> Image:
    from PIL import ImageEnhance

    kind = getattr(ImageEnhance, name)
    changed: Image = kind(image).enhance(1 + 0.9 * strength * way)
    return changed


def _posterised(image: Image, strength: float) -> Image:
    from PIL import ImageOps

    return ImageOps.posterize(image, 8 - round(4 * strength))


def _solarised(image: Image, strength: float) -> Image:
    from PIL import ImageOps

    return ImageOps.solarize(image, round(255 * (1 - strength)))


def _by_histogram(name: str, image: Image) -> Image:
    from PIL import ImageOps

    changed: Image = getattr(ImageOps, name)(image)
    return changed


def _turned(image: Image, strength: float, way: int) -> Image:
    from PIL import Image as Pillow

    return image.rotate(30 * strength * way, resample=Pillow.Resampling.BILINEAR, fillcolor=_GREY)


OPERATIONS: Final[dict[str, Callable[[Image, float, int], Image]]] = {
    "identity": lambda image, _much, _way: image,
    "shear_x": lambda image, much, way: _moved(image, (1, 0.3 * much * way, 0, 0, 1, 0)),
    "shear_y": lambda image, much, way: _moved(image, (1, 0, 0, 0.3 * much * way, 1, 0)),
    "translate_x": lambda image, much, way: _moved(image, (1, 0, 150 / 331 * image.width * much * way, 0, 1, 0)),
    "translate_y": lambda image, much, way: _moved(image, (1, 0, 0, 0, 1, 150 / 331 * image.height * much * way)),
    "rotate": _turned,
    "brightness": lambda image, much, way: _enhanced("Brightness", image, much, way),
    "colour": lambda image, much, way: _enhanced("Color", image, much, way),
    "contrast": lambda image, much, way: _enhanced("Contrast", image, much, way),
    "sharpness": lambda image, much, way: _enhanced("Sharpness", image, much, way),
    "posterise": lambda image, much, _way: _posterised(image, much),
    "solarise": lambda image, much, _way: _solarised(image, much),
    "autocontrast": lambda image, _much, _way: _by_histogram("autocontrast", image),
    "equalise": lambda image, _much, _way: _by_histogram("equalize", image),
}
"""Operation by name: (image, strength 0 to 1, ±1) → image."""
