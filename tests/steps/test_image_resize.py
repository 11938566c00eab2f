"""image_resize: the shorter side, and bytes that need not change."""

import numpy as np
import pyarrow as pa
from small_pictures import encoded, scene

from datapipe.steps import Keys, bind
from datapipe.steps.image_decode import decode_image
from datapipe.steps.image_head import read_head

WIDE = scene(120, 200)


def resized(*files, **options):
    table = pa.table({"row_id": list(map(str, range(len(files)))), "image": pa.array(files, pa.large_binary())})
    return bind("image_resize", options)(table, Keys()).to_pylist()


def test_the_shorter_side():
    """Both ways round, also where Exif turns it; the picture is the one that was there, and has no Exif to turn it."""
    upright, turned, png = resized(encoded(WIDE), encoded(WIDE, orientation=6), encoded(WIDE, "PNG"), shorter=30)
    assert (upright["width"], upright["height"]) == (50, 30)
    assert (turned["width"], turned["height"]) == (30, 50)
    assert [read_head(row["image"]).format for row in (upright, turned, png)] == ["jpeg", "jpeg", "png"]
    expected = WIDE.reshape(30, 4, 50, 4, 3).mean((1, 3))
    for row in (upright, png):
        pixels = decode_image(row["image"])
        assert pixels.shape == (30, 50, 3)
        assert np.abs(pixels - expected).mean() < 4
    assert np.abs(decode_image(turned["image"]) - np.rot90(expected, -1)).mean() < 4


def test_what_stays_as_it_is():
    """Nothing is enlarged; what cannot be decoded is for image_check; 0 is off."""
    small, cut = encoded(WIDE[:30]), encoded(WIDE)[:200]
    rows = resized(small, cut, b"", None, shorter=30)
    assert [row["image"] for row in rows] == [small, cut, b"", None]
    assert [(row["width"], row["height"]) for row in rows] == [(200, 30), (None, None), (None, None), (None, None)]
    assert resized(small) == [{"row_id": "0", "image": small}]
