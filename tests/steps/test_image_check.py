"""image_check: what pictures are, which of them are none, and what becomes of the odd ones."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from small_pictures import encoded, scene

from datapipe.steps import Keys, bind
from datapipe.steps.image_decode import decode_image

SCENE = scene()
ALPHA = np.dstack([SCENE, np.full(SCENE.shape[:2], 128, np.uint8)])
DEEP = (np.arange(600, dtype=np.uint16) * 100).reshape(20, 30)
FRAMES = [Image.fromarray(SCENE), Image.fromarray(SCENE[::-1].copy())]
JPEG = encoded(SCENE)
ODD = {
    "animated.gif": encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    "rotated.jpg": encoded(SCENE, orientation=6),
    "cmyk.jpg": encoded(SCENE, mode="CMYK"),
    "deep.png": encoded(DEEP, "PNG"),
    "alpha.png": encoded(ALPHA, "PNG"),
    "wrong_suffix.png": JPEG,
}
BROKEN = {
    "empty": b"",
    "not_an_image": b"no picture at all",
    "truncated": JPEG[: len(JPEG) // 2],
    "damaged": JPEG.replace(b"\xff\xc4\x00", b"\xff\xc4\x00\xff"),  # the tables of its codes
    "too_large": encoded(Image.new("1", (3000, 3000)), "PNG"),
}


def check(files, **options):
    """The rows by path, marks and signals among the columns."""
    table = pa.table(
        {
            "row_id": [f"p/{name}:0" for name in files],
            "image": pa.array(files.values(), pa.large_binary()),
            "path": list(files),
        }
    )
    made = bind("image_check", options)(table, Keys())
    return {row["path"]: row for row in made.to_pylist()}


def test_good_pictures_are_measured():
    """Size, format and mode, of JPEG and PNG; a hash where they are decoded; nothing marked."""
    found = check({"a.jpg": JPEG, "b.PNG": encoded(SCENE, "PNG"), "grey.jpeg": encoded(SCENE, mode="L")})
    for name, form, mode in (("a.jpg", "jpeg", "RGB"), ("b.PNG", "png", "RGB"), ("grey.jpeg", "jpeg", "L")):
        row = found[name]
        assert (row["width"], row["height"], row["format"], row["mode"]) == (60, 40, form, mode)
        assert not row.keys() & {"drop_reason", "quarantine_reason", "mark_detail"}
        assert not any(value for key, value in row.items() if key.startswith("image."))
    assert all(isinstance(row["phash"], int) for row in found.values())
    assert "phash" not in check({"a.jpg": JPEG}, decode=False)["a.jpg"]


def test_every_broken_picture_has_its_reason():
    """Counted by what is wrong with it; the rows beside it are untouched. Without decoding, headers are believed."""
    found = check({**BROKEN, "good.jpg": JPEG}, max_pixels=1_000_000)
    assert {name: found[name]["quarantine_reason"] for name in BROKEN} == {name: f"image_{name}" for name in BROKEN}
    assert all(found[name]["mark_detail"] and found[name]["width"] is None for name in BROKEN)
    assert found["good.jpg"]["quarantine_reason"] is None
    lazily = check(BROKEN, max_pixels=1_000_000, decode=False)
    assert lazily["truncated"]["quarantine_reason"] is None
    assert lazily["too_large"]["quarantine_reason"] == "image_too_large"


def test_odd_pictures_are_counted_and_kept():
    """Each kind in its own signal, and the bytes as they were; sizes are those of the picture upright."""
    found = check(ODD)
    for name, data in ODD.items():
        kind = name.partition(".")[0]
        assert [key for key, value in found[name].items() if key.startswith("image.") and value] == [f"image.{kind}"]
        assert found[name]["image"] == data
        assert "drop_reason" not in found[name]
    assert (found["rotated.jpg"]["width"], found["rotated.jpg"]["height"]) == (40, 60)


@pytest.mark.parametrize("kind", [name.partition(".")[0] for name in ODD])
def test_odd_pictures_can_be_dropped(kind):
    """With a reason of its own, and only those."""
    found = check(ODD, **{kind: "drop"})
    assert [row["drop_reason"] for path, row in found.items() if path.startswith(kind)] == [f"image_{kind}"]
    assert sum(row["drop_reason"] is not None for row in found.values()) == 1


def test_odd_pictures_can_be_converted():
    """Anew: one frame, upright, RGB of 8 bits, the same pixels as the decoder gives of the original."""
    odd = {name: data for name, data in ODD.items() if "suffix" not in name}
    found = check(odd, **{name.partition(".")[0]: "convert" for name in odd})
    for name, data in odd.items():
        row = found[name]
        made = Image.open(io.BytesIO(row["image"]))
        assert (made.mode, made.size, row["mode"]) == ("RGB", (row["width"], row["height"]), "RGB")
        assert row["format"] == made.format.lower() == ("jpeg" if name.endswith("jpg") else "png")
        off = np.abs(decode_image(row["image"]).astype(int) - decode_image(data)).mean()
        assert off == 0 or (row["format"] == "jpeg" and off < 3)


def test_a_picture_may_be_too_small():
    found = check({"a.jpg": JPEG, "b.png": encoded(SCENE[:30], "PNG")}, min_side=40)
    assert [row["drop_reason"] for row in found.values()] == [None, "image_too_small"]
    assert found["b.png"]["mark_detail"] == "60 × 30"


def test_want_of_memory_is_no_fault_of_the_picture(monkeypatch):
    """It would be dropped from one run and kept in the next: the error is raised, and the task run again."""

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("simplejpeg.decode_jpeg", full)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", full)
    for data in (JPEG, encoded(SCENE, "PNG")):
        with pytest.raises(MemoryError):
            check({"a": data})
