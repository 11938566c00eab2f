"""Bad input: counted and told, never lost, never fatal to the rest."""

import gzip
import json
import random

import pytest

import datapipe
from datapipe.dataset import open_dataset, verify_dataset
from datapipe.errors import CorpusError

PLAIN = {"name": "plain", "steps": ["decode", "unicode", "exact_duplicates"]}


def run(folder, output, overrides=None, **options):
    summary = datapipe.preprocess(folder, output, recipe=PLAIN, workers=0, overrides=overrides, **options)
    assert verify_dataset(str(output)).ok
    return summary


@pytest.fixture
def folder(tmp_path, tools):
    """A folder with one good document."""
    path = tmp_path / "in"
    path.mkdir()
    (path / "good.txt").write_text(tools.document(random.Random(0)))
    return path


def test_an_empty_folder(tmp_path):
    """Nothing to read is an error that names the place, and writes nothing."""
    (tmp_path / "in").mkdir()
    with pytest.raises(CorpusError, match="in"):
        run(tmp_path / "in", tmp_path / "out")
    with pytest.raises(CorpusError):
        run(tmp_path / "absent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_without_a_row(tmp_path):
    """Files that hold nothing at all are an error, not an empty dataset."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("")
    with pytest.raises(CorpusError, match="no document"):
        run(tmp_path / "in", tmp_path / "out")


def test_binary_garbage(folder, tmp_path):
    """Bytes that are no text are one quarantined document."""
    (folder / "noise.txt").write_bytes(random.Random(0).randbytes(5000))
    summary = run(folder, tmp_path / "out")
    assert (summary.documents_in, summary.documents_out, summary.quarantined) == (2, 1, {"not_text": 1})


def test_invalid_utf8(folder, tmp_path):
    """A few bad bytes are replaced and counted in the row."""
    (folder / "latin.txt").write_bytes(b"caf\xe9 " * 3 + b"and many more words that are plain " * 9)
    run(folder, tmp_path / "out")
    rows = open_dataset(str(tmp_path / "out")).take([0, 1])
    assert sorted(rows.column("bad_bytes").to_pylist()) == [0, 3]


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "cut.parquet"])
def test_truncated_files(folder, tmp_path, tools, name):
    """What could be read before the cut is kept, what was cut is quarantined; the other files are whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [tools.document(random.Random(i)) for i in range(1, 51)]
    if name.endswith("gz"):
        data = gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    else:
        pq.write_table(pa.table({"text": texts}), tmp_path / name)
        data = (tmp_path / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    summary = run(folder, tmp_path / "out")
    assert sum(summary.quarantined.values()) == 1
    assert summary.documents_in == summary.documents_out + 1
    assert summary.documents_out >= 1


def test_one_huge_line(folder, tmp_path):
    """A line beyond the limit is quarantined, and never held in memory whole."""
    with (folder / "huge.jsonl").open("w") as file:
        file.write('{"text": "' + "long " * 4_000_000 + '"}\n{"text": "short"}\n')
    summary = run(folder, tmp_path / "out", {"input.max_row_bytes": 1 << 20})
    assert summary.quarantined == {"row_too_large": 1}
    assert summary.documents_out == 2


def test_lines_that_are_no_rows(folder, tmp_path):
    """Broken JSON, another shape, no text: each counted for what it is."""
    lines = ["{", "[1]", '{"other": 1}', '{"text": 5}', '{"text": "fine"}', ""]
    (folder / "mixed.jsonl").write_text("\n".join(lines))
    summary = run(folder, tmp_path / "out")
    assert summary.quarantined == {"invalid_json": 1, "missing_text": 1, "not_an_object": 1, "text_not_string": 1}
    assert summary.documents_out == 2


def ids(output):
    dataset = open_dataset(str(output))
    return dataset.take(list(range(len(dataset)))).column("row_id").to_pylist()


@pytest.mark.parametrize("split_bytes", [100, 10**9])
def test_duplicate_ids(tmp_path, split_bytes):
    """Of rows with one id the first stays and the rest is quarantined, across files, whatever the splits."""
    (tmp_path / "in").mkdir()
    rows = [("a", "x"), ("b", "y"), ("a", "z"), ("c", "x"), ("b", "z"), ("d", "z")]
    for number in range(3):
        lines = "".join(json.dumps({"id": i, "text": t * 50}) + "\n" for i, t in rows[2 * number : 2 * number + 2])
        (tmp_path / "in" / f"{number}.jsonl").write_text(lines)
    overrides = {"input.id_column": "id", "output.split_bytes": split_bytes}
    summary = run(tmp_path / "in", tmp_path / "out", overrides)
    # The text of the second "a" is that of "d" too: as that row is gone for its id, "d" is the text's first.
    assert ids(tmp_path / "out") == ["a", "b", "d"]
    assert summary.quarantined == {"duplicate_id": 2}
    assert summary.duplicates == 1
    assert [r.detail for r in summary.rejects if r.reason == "duplicate"] == ["equal to a"]


def test_a_row_without_an_id(tmp_path):
    """A row that lacks the id column is quarantined."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"id": "1", "text": "one"}\n{"text": "two"}\n')
    summary = run(tmp_path / "in", tmp_path / "out", {"input.id_column": "id"})
    assert summary.quarantined == {"missing_id": 1}


def test_a_file_that_could_not_be_read_is_looked_at_again(folder, tmp_path, monkeypatch):
    """A file that was forbidden is quarantined; the next run, with the same etag, reads it if it now can."""
    from datapipe.corpus import reading
    from datapipe.errors import AccessError

    (folder / "secret.txt").write_text("a text of its own")
    real = reading._check_unchanged

    def forbidden(store, piece):
        if piece.file.path.endswith("secret.txt"):
            raise AccessError("not yours")
        real(store, piece)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "_check_unchanged", forbidden)
        assert run(folder, tmp_path / "out").quarantined == {"unreadable_file": 1}
    assert run(folder, tmp_path / "out").documents_out == 2


def test_unknown_files_are_told(folder, tmp_path):
    """A file of no known format is passed over, with a warning."""
    (folder / "picture.xyz").write_bytes(b"x")
    summary = run(folder, tmp_path / "out")
    assert any("1 file was passed over: 1 unknown_format (such as " in warning for warning in summary.warnings)
