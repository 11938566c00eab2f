"""The worst that is found in the wild: huge, empty, bombed, mixed. Counted and told, in bounded memory."""

import gzip
import json
import random
import subprocess
import sys

import pytest

import datapipe
from datapipe.dataset import verify_dataset
from datapipe.errors import SchemaError

PLAIN = {"name": "plain", "steps": ["decode", "unicode", "exact_duplicates"]}
SLOW = pytest.mark.slow
MB = 1 << 20


def run(folder, output, overrides=None, recipe=PLAIN, **options):
    summary = datapipe.preprocess(folder, output, recipe=recipe, overrides=overrides, **{"workers": 0, **options})
    assert verify_dataset(str(output)).ok
    return summary


# Of the program alone: `ru_maxrss` outlives an exec, and would be that of the tests before it in this process.
PEAK = """
import json, pathlib, sys, datapipe
folder, output, recipe = sys.argv[1:]
summary = datapipe.preprocess(folder, output, recipe=json.loads(recipe), workers=0)
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(json.dumps([summary.documents_in, summary.documents_out, summary.quarantined, summary.dropped, peak << 10]))
"""


def measured(folder, output, recipe=PLAIN):
    """Documents in and out, quarantined, dropped, and the peak of memory in bytes of a run in one process."""
    command = [sys.executable, "-c", PEAK, str(folder), str(output), json.dumps(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def folder(tmp_path):
    """A folder with one good document."""
    path = tmp_path / "in"
    path.mkdir()
    (path / "good.txt").write_text("a text that is good enough")
    return path


@pytest.mark.parametrize("size", [100 * MB, pytest.param(1 << 30, marks=SLOW)])
@pytest.mark.parametrize("name", ["huge.txt", "huge.jsonl", "huge.json", "huge.csv", "huge.html"])
def test_a_document_beyond_all_bounds(folder, tmp_path, name, size):
    """Quarantined for its size, in whichever format, and never held: memory stays within a worker's budget."""
    head = {"huge.jsonl": b'{"text": "', "huge.json": b'[{"text": "', "huge.csv": b'text\n"'}.get(name, b"")
    tail = {"huge.jsonl": b'"}\n{"text": "after"}\n', "huge.json": b'"}, {"text": "after"}]', "huge.csv": b'"\nafter\n'}
    with (folder / name).open("wb") as file:
        file.write(head)
        for _ in range(size // MB):
            file.write(b"words of " * (MB // 9) + b"x" * (MB % 9))
        file.write(tail.get(name, b""))
    rows_in, rows_out, quarantined, _, peak = measured(folder, tmp_path / "out")
    assert quarantined == {"row_too_large": 1}
    assert rows_in == rows_out + 1
    assert rows_out >= 1
    assert peak < 1 << 30


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("size", [200 * MB, pytest.param(4 << 30, marks=SLOW)])
def test_a_bomb(folder, tmp_path, kind, size):
    """A small file that expands a thousandfold and more: one row beyond the bound, in bounded memory."""
    import zstandard

    path = folder / f"bomb.txt.{kind}"
    with gzip.open(path, "wb") if kind == "gz" else zstandard.open(path, "wb") as file:
        for _ in range(size // MB):
            file.write(bytes(MB))
    assert path.stat().st_size < size // 500
    rows_in, rows_out, quarantined, _, peak = measured(folder, tmp_path / "out")
    assert (rows_in, rows_out, quarantined) == (2, 1, {"row_too_large": 1})
    assert peak < 1 << 30


@pytest.mark.parametrize("documents", [20_000, pytest.param(1_000_000, marks=SLOW)])
def test_very_many_empty_documents(folder, tmp_path, documents):
    """Each is a document: kept once, the rest counted as its duplicates."""
    with (folder / "empty.jsonl").open("w") as file:
        for _ in range(documents // 1000):
            file.write('{"text": ""}\n' * 1000)
    summary = run(folder, tmp_path / "out")
    assert summary.documents_in == documents + 1
    assert summary.documents_out + summary.duplicates + sum(summary.dropped.values()) == documents + 1


@pytest.mark.parametrize("lines", [50_000, pytest.param(1_000_000, marks=SLOW)])
def test_very_many_lines_of_one_word(folder, tmp_path, tools, lines):
    """As rows of a file, and as the lines of one document; nothing of either is lost."""
    draw = random.Random(0)
    words = [f"word{draw.randrange(10**9)}" for _ in range(lines)]
    (folder / "one.txt").write_text("\n".join(words))
    (folder / "rows.jsonl").write_text("".join(f'{{"text": "{word}"}}\n' for word in words))
    (folder / "good.txt").write_text(tools.document(draw))
    recipe = {"steps": ["decode", "unicode", "gopher_quality@datatrove", "exact_duplicates"]}
    summary = run(folder, tmp_path / "out", recipe=recipe)
    assert summary.documents_out == 1
    assert summary.documents_in == lines + 2
    gone = sum(summary.dropped.values()) + summary.duplicates + sum(summary.quarantined.values())
    assert summary.documents_in == summary.documents_out + gone


@pytest.mark.parametrize("depth", [pytest.param(10_000, marks=SLOW), 100_000])
def test_deeply_nested_html(folder, tmp_path, depth):
    """A page nested beyond what parsers recurse into: text or a counted reason, and the run goes on."""
    (folder / "deep.html").write_text("<div>" * depth + "the words inside of it" + "</div>" * depth)
    summary = run(folder, tmp_path / "out", recipe={"steps": ["decode", "html_to_text"]}, workers=1)
    assert summary.documents_in == 2
    gone = sum(summary.dropped.values()) + sum(summary.quarantined.values())
    assert summary.documents_out + gone == 2
    assert summary.documents_out >= 1


@pytest.mark.parametrize(
    ("other", "said"),
    [({"text": ["c"], "year": ["no year"]}, "string in"), ({"text": ["c"]}, "not there in"), (None, "large_string in")],
)
def test_shards_of_different_schemas(tmp_path, other, said):
    """A carried column of another type in another file: an error that names both, before anything is done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["a", "b"], "year": [1999, 2000]}), tmp_path / "in" / "a.parquet")
    if other is None:
        (tmp_path / "in" / "b.jsonl").write_text('{"text": "c", "year": 2001}')
    else:
        with pa.ipc.new_file(str(tmp_path / "in" / "b.arrow"), pa.table(other).schema) as writer:
            writer.write_table(pa.table(other))
    with pytest.raises(SchemaError, match=f"'year' is int64 in in/a.parquet, and {said} in/b"):
        run(tmp_path / "in", tmp_path / "out", {"input.columns": ["year"]})
    assert not (tmp_path / "out").exists()
    assert run(tmp_path / "in", tmp_path / "out").documents_in == 3


def test_a_clock_that_goes_backwards(folder, tmp_path, monkeypatch, tools):
    """No decision is taken by the wall clock: the same bytes, and no negative time."""
    import time

    run(folder, tmp_path / "a")
    now = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    monkeypatch.setattr(time, "time_ns", lambda: next(now) * 10**9)
    summary = run(folder, tmp_path / "b", workers=None)
    assert summary.seconds > 0
    assert tools.published(tmp_path / "a") == tools.published(tmp_path / "b")
    assert run(folder, tmp_path / "b").tasks_run == 0
