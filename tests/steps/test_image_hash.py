"""The perceptual hash: near for the same picture, far for another."""

import numpy as np
import pyarrow as pa
from PIL import Image
from small_pictures import encoded

from datapipe.steps import Keys, bind
from datapipe.steps.image_decode import decode_image
from datapipe.steps.image_hash import image_hash


def photo(seed):
    """A picture of soft shapes, [300, 400, 3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC))


def bits(one, two):
    return ((one ^ two) & (1 << 64) - 1).bit_count()


def hashed(data, at_least=None):
    return image_hash(decode_image(data, at_least), data)


def test_versions_of_a_picture_are_near():
    """Quality, size, brightness, format and the scale of decoding move few bits; another picture is far away."""
    whole = hashed(encoded(photo(1), "PNG"))
    smaller = Image.fromarray(photo(1)).resize((200, 150))
    versions = [
        encoded(photo(1), quality=40),
        encoded(smaller),
        encoded((photo(1) * 0.8 + 20).astype(np.uint8)),
    ]
    assert max(bits(whole, hashed(data)) for data in versions) <= 4
    assert bits(whole, hashed(versions[0], (128, 128))) <= 4
    assert min(bits(whole, hashed(encoded(photo(seed)))) for seed in range(2, 12)) > 12
    assert -(1 << 63) <= whole < 1 << 63


def test_pictures_of_one_grey_are_no_duplicates():
    """Black, white and nearly white have no shapes: each is near its own bytes alone."""
    plain = [encoded(np.full((50, 60, 3), value, np.uint8)) for value in (0, 255, 250)]
    hashes = [hashed(data) for data in plain]
    assert min(bits(hashes[0], hashes[1]), bits(hashes[0], hashes[2]), bits(hashes[1], hashes[2])) > 10
    assert hashed(plain[0]) == hashes[0]


def test_the_step_takes_a_hash_that_is_there():
    """image_check has decoded the picture already; and a picture that cannot be decoded has none."""
    data = encoded(photo(1))
    table = pa.table({"row_id": ["a", "b", "c"], "image": pa.array([data, b"no", None], pa.large_binary())})
    step = bind("image_duplicates")
    made = step(table, Keys()).column("phash").to_pylist()
    assert bits(made[0], hashed(data)) <= 2
    assert made[1:] == [None, None]
    there = table.append_column("phash", pa.array([1, 2, 3], pa.int64()))
    assert step(there, Keys()).equals(there)
