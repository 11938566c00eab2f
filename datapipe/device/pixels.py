"""Pixels as bytes → numbers around zero, where they are: on the GPU they came to, or on the CPU.

What enters: uint8 [B, H, W, 3], as `datapipe.Images` makes them. What leaves: floats [B, 3, H, W] over memory that
stays channels last, which convolutions want. Invariant: (x / 255 - mean) / std, computed in float32 and then rounded to
the dtype asked for; a quarter of the bytes crosses the bus that floats would be.
"""

from __future__ import annotations

import functools
from typing import Final

import torch

from datapipe.errors import ConfigError

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Of the ImageNet training pictures, red, green and blue, from 0 to 1: what torchvision's weights were trained with."""


def normalise_pixels(
    images: torch.Tensor,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    *,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Pictures as a model takes them.

    Args:
        images: uint8[B, H, W, 3], on any device.
        mean, std: of red, green and blue, from 0 to 1.
        dtype: of what leaves.

    Returns:
        dtype[B, 3, H, W] on the same device, in torch's channels_last memory format; nothing is copied twice.

    Raises:
        ConfigError: the tensor is none of pixels.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ConfigError(
            f"pixels as {images.dtype} {list(images.shape)}",
            expected="torch.uint8 [B, H, W, 3]",
            fix="give it what datapipe.Images made",
        )
    scale, shift = _constants(tuple(mean), tuple(std), images.device)
    numbers = images.permute(0, 3, 1, 2).to(torch.float32).mul_(scale).add_(shift)
    return numbers if dtype == torch.float32 else numbers.to(dtype)


@functools.lru_cache(maxsize=64)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """What pixels are multiplied by, and what is added then: float32[1, 3, 1, 1]."""
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConfigError(f"mean={mean}, std={std}", expected="three numbers each, std above 0")
    scale = torch.tensor([1 / (255 * each) for each in std], dtype=torch.float32, device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=device)
    return scale.view(1, 3, 1, 1), shift.view(1, 3, 1, 1)
