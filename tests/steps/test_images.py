"""Pictures for training: every draw keyed by seed, epoch and row id, so that offline, online and every rank agree."""

import pickle
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_pictures import encoded, scene

import datapipe
from datapipe.errors import ConfigError, DecodeError
from datapipe.loader.transform import RowKeys
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.image_colours import OPERATIONS, augmented
from datapipe.steps.image_mix import mix_images, partners
from datapipe.steps.image_view import ImageView, Looks

EVERYTHING = {
    "size": 24, "crop": "random", "flip": 0.5, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1,
    "rand_augment": 2,
}  # fmt: skip
ROWS = 24


def photos(rows=ROWS):
    """Encoded pictures of many sizes and formats, some of them turned."""
    forms = ["JPEG", "PNG", "WEBP", "GIF"]
    return [
        encoded(
            np.roll(scene(30 + 7 * (row % 5), 50 + 11 * (row % 3)), 3 * row, 1), forms[row % 4] if row % 3 else "JPEG",
            **({"orientation": 6} if row % 6 == 0 else {}),
        )
        for row in range(rows)
    ]  # fmt: skip


PHOTOS = photos()
IDS = [f"a/{row}" for row in range(ROWS)]


def made(images, rows=range(ROWS), *, epoch=0, seed=3, ids=True, **more):
    columns = {"image": [PHOTOS[row] for row in rows], "label": np.array(list(rows)), **more}
    if ids:
        columns["row_id"] = [IDS[row] for row in rows]
    return images(columns, RowKeys(seed=seed, epoch=epoch, rows=np.array(list(rows))))


def test_a_picture_depends_on_seed_epoch_and_row_alone():
    """Alone, in another order, in another batch, in threads or after pickling: the same pixels; else others."""
    images = datapipe.Images(**EVERYTHING)
    whole = made(images)["image"]
    assert (whole.shape, whole.dtype) == ((ROWS, 24, 24, 3), np.uint8)
    order = np.random.default_rng(0).permutation(ROWS).tolist()
    assert np.array_equal(made(images, order)["image"], whole[order])
    assert np.array_equal(made(pickle.loads(pickle.dumps(images)), [5])["image"], whole[[5]])
    found = {}
    threads = [threading.Thread(target=lambda t=t: found.update({t: made(images)["image"]})) for t in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(each, whole) for each in found.values())
    assert len(found) == 3
    assert not np.array_equal(made(images, epoch=1)["image"], whole)
    assert not np.array_equal(made(images, seed=4)["image"], whole)
    numbered = made(images, ids=False)["image"]
    assert not np.array_equal(numbered, whole)
    assert np.array_equal(made(images, [7, 2], ids=False)["image"], numbered[[7, 2]])


def test_offline_the_step_gives_the_same_pixels():
    """Contract 10: `image_pixels` in a recipe and `Images` in a loader are the same function."""
    table = pa.table({"row_id": IDS, "image": pa.array(PHOTOS, pa.large_binary())})
    keys = Keys(seed=3, epoch=2)
    step = bind("image_pixels", EVERYTHING)
    offline = run_steps(table, [step], keys).table.column("image")
    assert offline.type == pa.fixed_shape_tensor(pa.uint8(), [24, 24, 3])
    online = made(datapipe.Images(**EVERYTHING), epoch=2)["image"]
    assert np.array_equal(offline.combine_chunks().to_numpy_ndarray(), online)
    wrapped = pa.StructArray.from_arrays([pa.array(PHOTOS), pa.array(IDS)], ["bytes", "path"])
    again = run_steps(table.set_column(1, "image", wrapped), [step], keys).table.column("image")
    assert again.equals(offline)


def test_what_cannot_be_decoded_is_quarantined_offline_and_named_online():
    broken = [PHOTOS[0], PHOTOS[0][:200], None, b"text"]
    table = pa.table({"row_id": IDS[:4], "image": pa.array(broken, pa.binary())})
    ran = run_steps(table, [bind("image_pixels", {"size": 8})], Keys())
    assert ran.table.num_rows == 1
    assert ran.marked.column("reason").to_pylist() == ["image_truncated", "image_empty", "image_not_an_image"]
    keys = RowKeys(seed=0, epoch=0, rows=np.arange(4))
    with pytest.raises(DecodeError) as caught:
        datapipe.Images(size=8)({"image": broken, "row_id": IDS[:4]}, keys)
    assert "a/1" in caught.value.__notes__[0]
    batch = datapipe.Images(size=8, on_error="blank")({"image": broken}, keys)
    assert batch["image_valid"].tolist() == [True, False, False, False]
    assert batch["image"][1:].max() == 0
    assert batch["image"][0].max() > 0


def drawn(view, data, rows=200):
    looks = Looks(view, [str(row) for row in range(rows)], Keys())
    out = np.empty((rows, *view.shape), np.uint8)
    for row in range(rows):
        looks.look(row, data, out[row])
    return out


def test_parts_of_a_picture():
    """A coordinate grid tells what is seen: the middle, all of it, or drawn parts of the areas and shapes allowed."""
    down, across = np.meshgrid(np.arange(200), np.arange(240), indexing="ij")
    grid = encoded(np.stack([down, across, 0 * down], -1).astype(np.uint8), "PNG")

    def seen(pixels):
        """(top, bottom, left, right) of each picture, from the values at its edges."""
        tall, wide = (pixels[:, -1, 5, 0].astype(int) - pixels[:, 0, 5, 0]), pixels[:, 5, -1, 1].astype(int)
        return tall, wide - pixels[:, 5, 0, 1]

    (tall,), (wide,) = seen(drawn(ImageView(size=(20, 24), crop="whole"), grid, 1))
    assert abs(tall - 190) < 4
    assert abs(wide - 230) < 4
    (tall,), (wide,) = seen(drawn(ImageView(size=20, keep=0.5), grid, 1))
    assert abs(tall - 95) < 4
    assert abs(wide - 95) < 4
    tall, wide = seen(drawn(ImageView(size=20, crop="random", area=(0.2, 0.3), ratio=(0.5, 2)), grid))
    # From the middles of the first and last of 20 pixels: 0.95 of the part.
    area, ratio = tall * wide / 0.95**2 / (200 * 240), wide / tall
    assert 0.18 < area.min() < 0.22
    assert 0.28 < area.max() < 0.32
    assert 0.48 < ratio.min() < 0.65
    assert 1.6 < ratio.max() < 2.1
    assert abs(np.log(ratio).mean()) < 0.15
    flipped = drawn(ImageView(size=20, crop="whole", flip=0.3), grid)
    share = (flipped[:, 5, 0, 1] > flipped[:, 5, -1, 1]).mean()
    assert 0.2 < share < 0.4


def test_a_jpeg_decoded_small_shows_what_the_whole_one_shows():
    """Decoding no more than is needed changes neither which part is seen nor, by much, how it looks."""
    big = scene(400, 560)
    view = ImageView(size=40, crop="random", area=(0.5, 1))
    small, whole = drawn(view, encoded(big), 20), drawn(view, encoded(big, "PNG"), 20)
    assert np.abs(small.astype(int) - whole).mean() < 2


def test_a_part_is_pillows_own_crop_and_resize():
    data = encoded(scene(), "PNG")
    want = Image.fromarray(scene()).crop((10, 0, 50, 40)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(drawn(ImageView(size=16, keep=1), data, 1)[0], np.asarray(want))


def test_pictures_of_awkward_sizes_have_parts_too():
    for height, width in ((1, 1), (1, 300), (300, 1), (2, 3)):
        for form in ("JPEG", "PNG"):
            data = encoded(np.full((height, width, 3), 77, np.uint8), form)
            for crop in ("random", "middle", "whole"):
                out = drawn(ImageView(size=(5, 7), crop=crop), data, 5)
                assert np.abs(out.astype(int) - 77).max() < 4


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_of_the_policy_changes_what_it_says(name):
    """At strength nothing (but those that have no strength) a picture stays; at full strength it is another one."""
    noise = np.random.default_rng(0).integers(20, 200, (32, 32, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    still, strong = OPERATIONS[name](image, 0.0, 1), OPERATIONS[name](image, 1.0, -1)
    assert (strong.size, strong.mode) == (image.size, "RGB")
    if name not in {"autocontrast", "equalise"}:
        assert np.array_equal(np.asarray(still), noise)
    assert (name == "identity") == np.array_equal(np.asarray(strong), noise)
    at = list(OPERATIONS).index(name)
    policy = augmented(image, [(at + 0.5) / len(OPERATIONS), 0.7], 30)
    assert np.array_equal(np.asarray(policy), np.asarray(strong))


def test_jitter_changes_each_colour_by_no_more_than_asked():
    flat = encoded(np.full((8, 8, 3), (120, 60, 60), np.uint8), "PNG")
    bright = drawn(ImageView(size=8, brightness=0.5), flat)[:, 0, 0].astype(int)
    assert 58 <= bright[:, 0].min() < 75
    assert 165 < bright[:, 0].max() <= 182
    assert np.abs(bright[:, 0] - 2 * bright[:, 1]).max() <= 2
    hues = drawn(ImageView(size=8, hue=0.5), flat)[:, 0, 0].astype(int)
    assert np.abs(hues.max(1) - 120).max() <= 2
    assert len({int(each.argmax()) for each in hues}) == 3
    grey = drawn(ImageView(size=8, saturation=1.0), flat)[:, 0, 0].astype(int)
    assert np.ptp(grey, axis=1).min() < 6
    assert np.ptp(grey, axis=1).max() > 110


def test_mixing_is_of_neighbours_and_shares_are_exact():
    """Mixup is the weighted mean; cutmix a box of the other; the share is what is left; an odd last row stays."""
    ids = [str(row) for row in range(201)]
    flat = np.repeat(np.arange(201, dtype=np.uint8), 16 * 16 * 3).reshape(201, 16, 16, 3)
    other = flat[partners(201)]
    mixed = flat.copy()
    share = mix_images(mixed, ids, Keys(), mixup=0.4, cutmix=0)
    want = share[:, None, None, None] * flat + (1 - share)[:, None, None, None] * other
    assert np.abs(mixed - want).max() <= 0.5
    assert share[200] == 1
    assert abs(share[:200].mean() - 0.5) < 0.1
    assert share[:200].std() > 0.3  # Beta(0.4, 0.4) lies at the ends: its standard deviation is 0.37

    cut = flat.copy()
    share = mix_images(cut, ids, Keys(), mixup=0, cutmix=1)
    own = (cut == flat).all(-1)
    assert ((cut == flat) | (cut == other)).all()
    assert np.allclose(own.mean((1, 2)), share)
    black_and_white = np.where(flat % 2, 0, 255).astype(np.uint8)
    both = black_and_white.copy()
    mix_images(both, ids, Keys(), mixup=1, cutmix=1)
    kept = ((both == 0) | (both == 255)).all((1, 2, 3))
    assert 0.3 < kept.mean() < 0.7
    shifted = flat.copy()[2:]
    mix_images(shifted, ids[2:], Keys(), mixup=0.4, cutmix=0)
    assert np.array_equal(shifted, mixed[2:])


def test_labels_are_mixed_as_pictures_are():
    images = datapipe.Images(size=8, mixup=0.3)
    batch = made(images, range(6))
    assert batch["label_mixed"].tolist() == [1, 0, 3, 2, 5, 4]
    assert batch["label_share"].dtype == np.float32
    named = made(images, range(3), label=["a", "b", "c"])
    assert named["label_mixed"] == ["b", "a", "c"]
    with pytest.raises(ConfigError, match="label"):
        images({"image": PHOTOS[:2]}, RowKeys(seed=0, epoch=0, rows=np.arange(2)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sise": 3}, "did you mean 'size'"),
        ({"size": 0}, "size"),
        ({"size": (3, 4, 5)}, "size"),
        ({"crop": "centre"}, "crop"),
        ({"area": (0.5, 0.1)}, "area"),
        ({"flip": 2}, "flip"),
        ({"hue": 0.7}, "hue"),
        ({"mixup": 3}, "mixup"),
        ({"on_error": "skip"}, "on_error"),
        ({"magnitude": 31}, "magnitude"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        datapipe.Images(**options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of encoded pictures, in Hugging Face's layout, in four row groups."""
    path = tmp_path_factory.mktemp("photos")
    wrapped = pa.StructArray.from_arrays([pa.array(PHOTOS), pa.array(IDS)], ["bytes", "path"])
    table = pa.table({"row_id": IDS, "image": wrapped, "label": np.arange(ROWS)})
    pq.write_table(table, path / "part-0.parquet", row_group_size=6)
    return path


def batches(folder, **options):
    transform = options.pop("transform", None) or datapipe.Images(**EVERYTHING, mixup=0.4, cutmix=1.0)
    loader = datapipe.DataLoader(
        datapipe.open_dataset(folder), transform=transform, collate="numpy", lanes=4, seed=5, **options
    )
    with loader:
        return list(loader)


def test_the_loader_delivers_the_same_pictures_on_any_number_of_threads_and_ranks(folder):
    """The union of what ranks get is what one rank gets, mixed pictures and shares included."""
    alone = batches(folder, batch_size=8, num_threads=1, prefetch=0)
    assert alone[0]["image"].shape == (8, 24, 24, 3)
    assert sorted(alone[0]) == ["image", "label", "label_mixed", "label_share", "row_id"]
    threaded = batches(folder, batch_size=8, num_threads=3, prefetch=4)
    for one, other in zip(alone, threaded, strict=True):
        assert one["row_id"] == other["row_id"]
        assert np.array_equal(one["image"], other["image"])
    by_row = {
        row: (image.tobytes(), share, mixed)
        for batch in alone
        for row, image, share, mixed in zip(
            batch["row_id"], batch["image"], batch["label_share"], batch["label_mixed"], strict=True
        )
    }
    assert len(by_row) == ROWS
    for ranks in (2, 4):
        for rank in range(ranks):
            for batch in batches(folder, batch_size=8 // ranks, rank=rank, world_size=ranks, num_threads=2):
                for at, row in enumerate(batch["row_id"]):
                    got = (batch["image"][at].tobytes(), batch["label_share"][at], batch["label_mixed"][at])
                    assert got == by_row[row]


def test_batches_of_one_row_or_none(folder):
    """A last batch of one row mixes with nothing; a rank's empty share of it has pixels of no row."""
    images = datapipe.Images(size=8, mixup=0.4, crop="random", flip=0.5)
    nothing = made(images, [])
    assert nothing["image"].shape == (0, 8, 8, 3)
    assert nothing["label_share"].shape == (0,)
    shares = [
        len(batches(folder, batch_size=1, transform=images, tail="partial", rank=rank, world_size=23)[-1]["image"])
        for rank in (0, 22)
    ]
    assert sorted(shares) == [0, 1]
    one = made(images, [3])
    assert one["label_share"].tolist() == [1.0]
    assert one["label_mixed"].tolist() == [3]
