"""One decoder: any image's bytes become upright RGB pixels, or an error that names the reason."""

import pickle
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from small_pictures import encoded, scene

from datapipe.errors import ConfigError, DecodeError
from datapipe.steps import image_decode
from datapipe.steps.image_decode import decode_image
from datapipe.steps.image_head import REASONS, read_head

SCENE = scene()


def far(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_every_format_comes_out_as_the_same_picture(form):
    """Formats are told by their bytes; the head says the size that the pixels have."""
    data = encoded(SCENE, form)
    pixels = decode_image(data)
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((40, 60, 3), np.uint8, True)
    assert far(pixels, SCENE) < 6
    head = read_head(memoryview(data))
    assert (head.format, head.height, head.width, head.animated) == (form.lower(), 40, 60, False)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_applies_it(form, orientation):
    """A photo taken upright leaves upright, and `at_least` and the head are of the picture as it is shown."""
    data = encoded(SCENE, form, orientation=orientation)
    shown = Image.fromarray(SCENE)
    shown.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(shown))
    pixels = decode_image(data)
    assert pixels.shape == wanted.shape
    assert far(pixels, wanted) < 6
    head = read_head(data)
    assert (head.height, head.width) == wanted.shape[:2]
    assert decode_image(data, head=head).tobytes() == pixels.tobytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 80), st.integers(1, 80), st.sampled_from([1, 3, 6]))
def test_a_scaled_picture_is_never_smaller_than_asked_and_never_twice_too_large(height, width, down, across, turned):
    """At least the size asked for on both sides, where the picture has it; half of it would not be enough."""
    data = encoded(scene(height, width), orientation=turned)
    full = decode_image(data)
    pixels = decode_image(data, (down, across))
    for had, got, wanted in zip(full.shape, pixels.shape, (down, across), strict=False):
        assert got >= min(had, wanted)
    if full.shape[0] >= down and full.shape[1] >= across and min(full.shape[:2]) >= 16:
        tight = any(-(-got // 2) < wanted for got, wanted in zip(pixels.shape, (down, across), strict=False))
        assert tight or max(full.shape[0] / pixels.shape[0], full.shape[1] / pixels.shape[1]) > 4


def test_modes_other_than_rgb_become_rgb_in_the_one_documented_way():
    """Grey is grey, palette its colours, alpha lies over white, 16 bits give the high byte, CMYK is Pillow's."""
    grey = np.asarray(Image.fromarray(SCENE).convert("L"))
    assert far(decode_image(encoded(SCENE, "JPEG", mode="L")), np.repeat(grey[..., None], 3, 2)) < 2
    assert np.array_equal(decode_image(encoded(SCENE, "PNG", mode="L")), np.repeat(grey[..., None], 3, 2))
    few = Image.fromarray(SCENE).convert("P")
    assert np.array_equal(decode_image(encoded(few, "PNG")), np.asarray(few.convert("RGB")))
    assert set(np.unique(decode_image(encoded(SCENE, "PNG", mode="1")))) <= {0, 255}

    seen = np.dstack([SCENE, np.zeros((40, 60), np.uint8)])
    seen[:, 30:, 3] = 255
    for form in ("PNG", "WEBP"):
        pixels = decode_image(encoded(Image.fromarray(seen), form, **({"lossless": True} if form == "WEBP" else {})))
        assert (pixels[:, :30] == 255).all()
        assert np.array_equal(pixels[:, 30:], SCENE[:, 30:])
    half = Image.merge("LA", [Image.new("L", (2, 1), 0), Image.new("L", (2, 1), 128)])
    assert decode_image(encoded(half, "PNG")).ravel().tolist() == [127] * 6
    palette = Image.fromarray(SCENE).convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert decode_image(encoded(palette, "PNG"))[0, 0].tolist() == [255, 255, 255]

    deep = Image.fromarray((grey.astype(np.uint16) << 8) | 77)
    for form in ("PNG", "TIFF"):
        assert np.array_equal(decode_image(encoded(deep, form)), np.repeat(grey[..., None], 3, 2))
    cmyk = encoded(SCENE, "JPEG", mode="CMYK")
    assert read_head(cmyk).mode == "CMYK"
    assert far(decode_image(cmyk), SCENE) < 6


def test_of_an_animation_the_first_frame_is_decoded_and_the_head_says_so():
    frames = [Image.fromarray(each) for each in (SCENE, 255 - SCENE)]
    for form in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        assert read_head(data).animated
        assert far(decode_image(data), SCENE) < 12


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def sized(data, height, width):
    """A JPEG whose frame header says another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


JPEG = encoded(SCENE)
PROGRESSIVE = encoded(SCENE, progressive=True)
LAST = PROGRESSIVE.rindex(b"\xff\xda")
BAD = {
    "no bytes": (b"", "empty"),
    "text": (b"<html>no picture</html>", "not_an_image"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "a JPEG without its end": (JPEG[:-2], "truncated"),
    "three bytes": (JPEG[:3], "truncated"),
    "a JPEG's header": (JPEG[:30], "truncated"),
    "a JPEG of garbage": (JPEG[:-200] + b"\xff\x13" * 100, "damaged"),
    "a JPEG with no markers": (b"\xff\xd8\xff\xe0\x00\x04abnothing of the kind", "damaged"),
    "half a PNG": (encoded(SCENE, "PNG")[:-60], "truncated"),
    "a PNG's signature": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "half a WebP": (encoded(SCENE, "WEBP")[:-30], "damaged"),
    "half a GIF": (encoded(SCENE, "GIF")[:-60], "truncated"),
    "a JPEG of height 0": (sized(JPEG, 0, 60), "zero_size"),
    "a JPEG that says 65,000²": (sized(JPEG, 65_000, 65_000), "too_large"),
    "a PNG that says 60,000²": (png(60_000, 60_000), "too_large"),
    "a PNG that says 10,000²": (png(10_000, 10_000), "too_large"),
    "a JPEG of 300 scans": (PROGRESSIVE[:-2] + PROGRESSIVE[LAST:-2] * 300 + b"\xff\xd9", "too_large"),
    "floats": (encoded(Image.fromarray(SCENE[..., 0].astype(np.float32)), "TIFF"), "unsupported"),
    "32 bits": (encoded(Image.fromarray(SCENE[..., 0].astype(np.int32)), "TIFF"), "unsupported"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_picture_is_refused_with_its_reason_before_memory_is_spent(name):
    data, reason = BAD[name]
    with pytest.raises(DecodeError) as caught:
        decode_image(data)
    assert caught.value.reason == reason
    assert reason in REASONS
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.reason, str(again)) == (reason, str(caught.value))


def test_the_pixel_limit_is_of_the_whole_picture_even_where_less_is_asked_for():
    for form in ("JPEG", "PNG"):
        data = encoded(SCENE, form)
        assert decode_image(data, (5, 5), max_pixels=2400).size
        with pytest.raises(DecodeError, match=r"60 × 40|40 × 60") as caught:
            decode_image(data, (5, 5), max_pixels=2399)
        assert caught.value.reason == "too_large"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bytes_changed_anywhere_give_a_picture_or_a_reason_and_nothing_else(data):
    form = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]))
    whole = bytearray(encoded(scene(9, 7), form, orientation=6 if form in {"JPEG", "PNG", "WEBP"} else None))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    whole = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for call in (lambda: decode_image(whole, (3, 3), max_pixels=10**6), lambda: read_head(whole)):
        try:
            call()
        except DecodeError as error:
            assert error.reason in REASONS  # noqa: PT017  (not every change does harm)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_jpeg_is_found_out_at_any_scale(data):
    """Cut or changed anywhere, baseline or progressive: decoded at 1/8 it has the verdict that it has when whole."""
    whole = bytearray(encoded(scene(64, 96), "jpeg", progressive=data.draw(st.booleans())))
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 9))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert verdict(bytes(whole), (1, 1)) == verdict(bytes(whole), None)


def verdict(image, at_least):
    try:
        decode_image(image, at_least)
    except DecodeError as error:
        return error.reason
    return None


def test_other_threads_run_while_a_picture_is_decoded():
    """The interpreter's lock is not held: a thread that only counts goes on counting within one decode."""
    data = encoded(np.random.default_rng(0).integers(0, 255, (1500, 1500, 3)).astype(np.uint8))
    done = threading.Event()
    counted = 0

    def decode():
        decode_image(data)
        done.set()

    thread = threading.Thread(target=decode)
    thread.start()
    while not done.is_set():
        counted += 1
        time.sleep(0)
    thread.join()
    assert counted > 50  # with the lock held, once before and once after


def test_a_decoder_that_is_not_installed_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(ConfigError, match=r"datapipe-toolkit\[image\]"):
        image_decode.decode_image(JPEG)
