"""Files of labels that do not go together with what lies beside them: told, with numbers."""

import pytest

from datapipe.corpus import ReadOptions, discover, uncovered_labels

OPTIONS = ReadOptions(text_column=None, columns=("*",), media="image")


def said(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return uncovered_labels(discover(root, media="image").files, OPTIONS)


@pytest.mark.parametrize("below", ["", "a/"])
def test_both_are_counted(tmp_path, below):
    """Pictures that no record names, and records of no picture; a record that an inner file answers for is neither."""
    files = {f"{below}cat/{n}.jpg": "x" for n in range(3)} | {f"{below}dog/1.jpg": "x"}
    files[f"{below}metadata.csv"] = "file_name,label\n./cat/0.jpg,cat\ndog/1.jpg,dog\nb\x07.jpg,bird\n"
    files[f"{below}dog/labels.csv"] = "file_name,label\n1.jpg,hound\n"
    assert said(tmp_path / "p", files) == (
        f"{below}metadata.csv has no record of 2 of 3 files: label is null there (such as {below}cat/1.jpg)",
        f"{below}metadata.csv: 1 of 3 records are about a file that is not in the input (such as b\\x07.jpg)",
    )


def test_nothing_is_said_where_all_go_together(tmp_path):
    """Nor where there is no file of labels."""
    files = {"cat/1.jpg": "x"}
    assert said(tmp_path / "p", files) == ()
    assert said(tmp_path / "p", files | {"metadata.csv": "file_name,label\ncat/1.jpg,cat\n"}) == ()


def test_a_run_tells(tmp_path):
    """Among the warnings of its summary."""
    from PIL import Image

    from datapipe import preprocess

    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "metadata.csv").write_text("file_name,label\nb.png,cat\n")
    recipe = {"input": {"media": "image", "text_column": None}, "steps": ["image_check"]}
    warnings = preprocess(tmp_path / "in", tmp_path / "out", recipe, workers=0).warnings
    assert [each.partition(" (")[0] for each in warnings[:2]] == [
        "metadata.csv has no record of 1 of 1 files: label is null there",
        "metadata.csv: 1 of 1 records are about a file that is not in the input",
    ]
