"""The recipe images, from a folder, a tar and Parquet to shards, every picture accounted for."""

import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datapipe import open_dataset, preprocess
from datapipe.errors import ConfigError
from datapipe.preprocess import explain, plan_run

PROGRAM = Path(__file__).parent / "killed.py"


def photo(seed, size=(64, 48)):
    """A picture of soft shapes."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image, form="JPEG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def folder(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def photos(tmp_path):
    """Two classes, a copy in another size and quality, and one picture of each defect."""
    bomb = encoded(Image.new("1", (3000, 3000)), "PNG")
    files = {f"{'cat' if n % 2 else 'dog'}/{n}.jpg": encoded(photo(n)) for n in range(6)}
    files |= {"dog/copy.png": encoded(photo(0, (40, 30)), "PNG"), "cat/zcopy.jpg": files["cat/1.jpg"]}
    files |= {"cat/cut.jpg": files["cat/1.jpg"][:-200], "cat/zero.jpg": b"", "cat/bomb.png": bomb, "notes.txt": b"x"}
    return folder(tmp_path / "photos", files)


def published(root):
    """The bytes of every shard, by path."""
    return {path.name: path.read_bytes() for path in sorted((root / "data").iterdir())}


def test_a_folder_of_photos(photos, tmp_path):
    """Rows with size and label; broken ones quarantined; copies gone, the survivor named; killed, the same bytes."""
    overrides = {"image_check.max_pixels": 1_000_000}
    summary = preprocess(photos, tmp_path / "out", recipe="images", workers=0, **overrides)
    assert summary.quarantined == {"image_truncated": 1, "image_empty": 1, "image_too_large": 1}
    assert (summary.documents_in, summary.documents_out, summary.duplicates) == (11, 6, 2)
    dataset = open_dataset(str(tmp_path / "out"))
    rows = {row["path"]: row for row in dataset.take(range(len(dataset))).to_pylist()}
    assert {path: row["label"] for path, row in rows.items()} == {
        f"{'cat' if n % 2 else 'dog'}/{n}.jpg": "cat" if n % 2 else "dog" for n in range(6)
    }
    assert {(row["width"], row["height"], row["format"], row["mode"]) for row in rows.values()} == {
        (64, 48, "jpeg", "RGB")
    }
    assert all(row["image"] == (photos / path).read_bytes() for path, row in rows.items())
    for copy, first in (("dog/copy.png", "dog/0.jpg"), ("cat/zcopy.jpg", "cat/1.jpg")):
        said = explain(tmp_path / "out", f"photos/{copy}:0")
        assert f"photos/{first}:0" in str(said)
        assert "near_duplicate_image" in str(said)
    arguments = [PROGRAM, photos, tmp_path / "again", 0, "before:9", json.dumps(overrides), "images"]
    killed = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = preprocess(photos, tmp_path / "again", recipe="images", workers=0, **overrides)
    assert again.tasks_reused > 0
    assert again.fingerprint == summary.fingerprint
    assert published(tmp_path / "again") == published(tmp_path / "out")


def test_tar_and_parquet_are_read_as_folders_are(tmp_path):
    """The same pictures from a tar and from Hugging Face's layout; labels and fields as they stand there."""
    pictures = [encoded(photo(n)) for n in range(3)]
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for n, data in enumerate(pictures):
            for name, content in ((f"{n}.jpg", data), (f"{n}.cls", str(n).encode()), (f"{n}.json", b'{"by": "me"}')):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": data, "path": f"{n}.jpg"} for n, data in enumerate(pictures)], kind)
    pq.write_table(pa.table({"img": column, "label": pa.array([0, 1, 2])}), tmp_path / "hf.parquet")
    found = {}
    for name in ("s.tar", "hf.parquet"):
        preprocess(tmp_path / name, tmp_path / f"out-{name}", recipe="images", workers=0)
        dataset = open_dataset(str(tmp_path / f"out-{name}"))
        found[name] = sorted(dataset.take(range(3)).to_pylist(), key=lambda row: row["path"])
        assert [row["image"] for row in found[name]] == pictures
    assert [(row["label"], row["by"]) for row in found["s.tar"]] == [("0", "me"), ("1", "me"), ("2", "me")]
    assert [row["label"] for row in found["hf.parquet"]] == [0, 1, 2]


def test_resized_and_the_largest_kept(tmp_path):
    """Of copies the largest where asked; shards of the size asked for; labels from a metadata.csv."""
    files = {"a.jpg": encoded(photo(1, (40, 30))), "b.png": encoded(photo(1, (80, 60)), "PNG")}
    files["metadata.csv"] = b"file_name,label\nb.png,big\n"
    root = folder(tmp_path / "p", files)
    overrides = {"image_duplicates.survivor": "largest", "image_resize.shorter": 20}
    preprocess(root, tmp_path / "out", recipe="images", workers=0, **overrides)
    (row,) = open_dataset(str(tmp_path / "out")).take([0]).to_pylist()
    assert (row["path"], row["label"], row["width"], row["height"]) == ("b.png", "big", 27, 20)
    assert Image.open(io.BytesIO(row["image"])).size == (27, 20)


def test_a_delivery_is_compared_with_what_is_there(tmp_path):
    """A copy in a later delivery is a duplicate of the picture delivered first, which stays."""
    root = folder(tmp_path / "p", {"z.jpg": encoded(photo(1)), "y.jpg": encoded(photo(2))})
    preprocess(root, tmp_path / "out", recipe="images", workers=0)
    folder(root, {"a.png": encoded(photo(1, (60, 45)), "PNG"), "b.jpg": encoded(photo(3))})
    summary = preprocess(root, tmp_path / "out", recipe="images", workers=0, append=True)
    assert (summary.documents_in, summary.duplicates) == (2, 1)
    dataset = open_dataset(str(tmp_path / "out"))
    assert sorted(row["path"] for row in dataset.take(range(len(dataset))).to_pylist()) == ["b.jpg", "y.jpg", "z.jpg"]


def test_labels_are_part_of_what_is_read(photos, tmp_path):
    """Other labels are other rows: a run after metadata.csv changed does not take up what the one before did."""
    keys = []
    for label in ("x", "why"):
        (photos / "metadata.csv").write_text(f"file_name,label\ndog/0.jpg,{label}\n")
        preprocess(photos, tmp_path / "out", recipe="images", workers=0, **{"image_check.max_pixels": 1_000_000})
        dataset = open_dataset(str(tmp_path / "out"))
        keys.append({row["path"]: row["label"] for row in dataset.take(range(len(dataset))).to_pylist()}["dog/0.jpg"])
    assert keys == ["x", "why"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest["recipe"]["input"]["media"] == "image"


def test_recipes_that_could_not_work(photos, tmp_path):
    with pytest.raises(ConfigError, match=r"input.media = 'image', and input.text_column"):
        plan_run(photos, tmp_path / "out", "text", overrides={"input.media": "image"})
    with pytest.raises(ConfigError, match="threshold"):
        plan_run(photos, tmp_path / "out", "images", overrides={"image_duplicates.threshold": 11})
