"""Pictures and sounds as files of their own: rows, labels, and what is passed over."""

import os

import pytest

from datapipe.corpus import ReadOptions, discover, plan_splits, read_piece
from datapipe.errors import ConfigError, CorpusError

OPTIONS = ReadOptions(text_column=None, columns=("*",), media="image")


def put(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(folder)


def read(root, options=OPTIONS):
    """(rows, quarantined, skipped) of an input."""
    found = discover(root, media=options.media)
    rows, bad = [], []
    for split in plan_splits(found.files):
        for piece in split.pieces:
            for batch in read_piece(piece, options=options):
                rows += batch.table.to_pylist()
                bad += [(row.row_id, row.reason) for row in batch.quarantined]
    return rows, bad, found.skipped


def test_a_file_is_a_row(tmp_path):
    """The bytes as they are, the path, and the folder's name as label; what is no picture is passed over, counted."""
    root = put(tmp_path / "p", {"cat/1.JPG": b"abc", "top.png": b"", "a.wav": b"x", "b.txt": b"x", "c.xyz": b"x"})
    rows, bad, skipped = read(root)
    assert rows == [
        {"row_id": "p/cat/1.JPG:0", "image": b"abc", "path": "cat/1.JPG", "label": "cat"},
        {"row_id": "p/top.png:0", "image": b"", "path": "top.png", "label": None},
    ]
    assert bad == []
    assert dict(skipped) == {"p/a.wav": "other_medium", "p/b.txt": "other_medium", "p/c.xyz": "unknown_format"}
    assert [row["audio"] for row in read(root, ReadOptions(text_column=None, media="audio"))[0]] == [b"x"]


def test_without_a_medium_pictures_are_passed_over(tmp_path):
    """A corpus of texts with pictures among them is read as it was before there were readers of pictures."""
    found = discover(put(tmp_path / "p", {"1.jpg": b"abc", "2.tar": b"x", "b.txt": b"x", "metadata.csv": b"text\nx\n"}))
    assert [file.name for file in found.files] == ["p/b.txt", "p/metadata.csv"]
    assert {reason for _, reason in found.skipped} == {"unknown_format"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", "file_name,label,caption\nx/1.jpg,tabby,a cat\nx/1.jpg,again,no\n"),
        ("labels.tsv", "file_name\tlabel\tcaption\n./x/1.jpg\ttabby\ta cat\n"),
        ("metadata.jsonl", '{"file_name": "x/1.jpg", "label": "tabby", "caption": "a cat"}\n'),
    ],
)
def test_labels(tmp_path, name, text):
    """The nearest file of labels above a picture counts; a file without a record has no label, not its folder's."""
    root = put(tmp_path / "p", {"metadata.csv": "file_name,label\n", f"a/{name}": text})
    put(tmp_path / "p", {"a/x/1.jpg": b"1", "a/2.jpg": b"2"})
    rows = read(root)[0]
    assert [(row["path"], row["label"], row["caption"]) for row in rows] == [
        ("a/2.jpg", None, None),
        ("a/x/1.jpg", "tabby", "a cat"),
    ]


def test_a_file_of_labels_that_cannot_be_read_stops(tmp_path):
    """Rows without the labels that they have would be worse than none."""
    root = put(tmp_path / "p", {"metadata.csv": "name,label\n1.jpg,a\n", "1.jpg": b"1"})
    with pytest.raises(ConfigError, match="without 'file_name'"):
        read(root)
    put(tmp_path / "p", {"metadata.csv": "file_name,label\n1.jpg,a,b\n"})
    with pytest.raises(CorpusError, match="malformed_row"):
        read(root)


def test_hostile_files(tmp_path):
    """Too large, gone, a name that is no Unicode: each its reason, and no reader stops."""
    root = put(tmp_path / "p", {"big.jpg": b"x" * 100, "gone.jpg": b"x"})
    with open(os.fsencode(root) + b"/\xff.jpg", "wb") as file:  # noqa: PTH123
        file.write(b"y")
    options = ReadOptions(text_column=None, media="image", max_row_bytes=50)
    found = discover(root, media="image")
    (tmp_path / "p" / "gone.jpg").unlink()
    batches = [
        batch
        for split in plan_splits(found.files)
        for piece in split.pieces
        for batch in read_piece(piece, options=options)
    ]
    bad = {row.row_id: row.reason for batch in batches for row in batch.quarantined}
    assert bad == {"p/big.jpg:0": "row_too_large", "p/gone.jpg:0": "unreadable_file"}
    assert [row["path"] for batch in batches for row in batch.table.to_pylist()] == ["\\xff.jpg"]


def test_media_options():
    for wrong in ({"media": "video"}, {"media": "image", "text_column": "text"}):
        with pytest.raises(ConfigError):
            ReadOptions(**{"text_column": None, **wrong})
