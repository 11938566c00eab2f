"""The filters are those of librosa 0.11 (numbers computed with it), and the scales have inverses."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.steps.mel_filters import hz_of, mel_filters, mel_of

AREAS = [
    0.02497049,
    0.0249705,
    0.0249705,
    0.02505707,
    0.02497511,
    0.02499936,
    0.02500118,
    0.02499508,
    0.02500632,
    0.02499412,
    0.02500521,
    0.02499629,
]


def test_against_librosa():
    """The sum of each of 12 filters at 16 kHz, 400 points."""
    filters = mel_filters(16000, 400, 12, 0.0, 8000.0)
    assert filters.shape == (12, 201)
    assert np.allclose(filters.sum(1), AREAS, rtol=1e-5)
    flat = mel_filters(16000, 4096, 12, 0.0, 8000.0, scale="htk", area=False)
    assert flat.max() <= 1
    assert flat.max(axis=1) == pytest.approx(1, abs=0.03), "each has the height 1"


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_scales(scale):
    """1 kHz is 1000 mel (htk) and 15 (slaney); back and forth is the identity; higher is higher."""
    hz = np.linspace(0, 12000, 400)
    assert np.allclose(hz_of(mel_of(hz, scale), scale), hz, atol=1e-8)
    assert (np.diff(mel_of(hz, scale)) > 0).all()
    assert mel_of(1000, scale) == pytest.approx(1000 if scale == "htk" else 15, rel=1e-4)
