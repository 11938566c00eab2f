"""Pictures as bytes become numbers around zero, on the CPU and on a GPU."""

import numpy as np
import pytest
import torch

from datapipe.device import normalise_pixels
from datapipe.errors import ConfigError

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8))
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def expected(pixels):
    numbers = (pixels.numpy().astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(numbers.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_pixels_are_scaled_and_centred_and_stay_channels_last(device):
    """(x / 255 - mean) / std to float32's last digits; the bytes given are left as they were."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pixels = PIXELS.to(device)
    made = normalise_pixels(pixels, MEAN, STD)
    assert (made.dtype, made.shape, made.device.type) == (torch.float32, (3, 3, 5, 7), device)
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(made.cpu().double(), expected(PIXELS), atol=2e-6)
    assert torch.equal(pixels.cpu(), PIXELS)
    half = normalise_pixels(pixels, MEAN, STD, dtype=torch.bfloat16)
    assert torch.equal(half, made.to(torch.bfloat16))


def test_what_is_no_pixels_is_refused():
    for wrong in (PIXELS.float(), PIXELS[0], PIXELS.permute(0, 3, 1, 2)):
        with pytest.raises(ConfigError, match="uint8"):
            normalise_pixels(wrong)
    with pytest.raises(ConfigError, match="std above 0"):
        normalise_pixels(PIXELS, MEAN, (0.1, 0.1, 0.0))
    assert normalise_pixels(PIXELS[:0]).shape == (0, 3, 5, 7)
