"""sort, shuffle and mix over real files: permutations and exact counts, whatever the cut and the workers."""

from __future__ import annotations

import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.dataset import open_dataset, verify_dataset
from datapipe.errors import ConfigError, LedgerError, PreprocessError
from datapipe.preprocess.row_ledger import RowLedger
from datapipe.preprocess.tasks import TaskRecord

ROWS = 3000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Records in CSV and Parquet: numbers with nulls and NaN, labels 6:3:1."""
    folder = tmp_path_factory.mktemp("tables") / "in"
    folder.mkdir()
    draw = random.Random(5)
    half = ROWS // 2
    records = [(i, draw.choice([None, draw.uniform(-9, 9)]), draw.choice("aaaaaabbbc")) for i in range(ROWS)]
    lines = [f"{n},{'' if x is None else x},{label}" for n, x, label in records[:half]]
    (folder / "a.csv").write_text("\n".join(["n,x,label", *lines]) + "\n")
    rest = records[half:]
    columns = {
        "n": [r[0] for r in rest],
        "x": pa.array([r[1] for r in rest], pa.float64()),
        "label": [r[2] for r in rest],
    }
    for part in range(4):
        table = pa.table(columns).slice(part * len(rest) // 4, len(rest) // 4)
        pq.write_table(table, folder / f"b{part}.parquet", row_group_size=100)
    return folder


def recipe(*steps, seed=0, split_bytes=8000):
    return {
        "name": "moving",
        "seed": seed,
        "input": {"text_column": None, "columns": ["*"]},
        "steps": [{"schema": {"columns": {"n": "int64", "x": "float64", "label": "string"}}}, *steps],
        "output": {"row_group_rows": 64, "split_bytes": split_bytes},
    }


def run(corpus, output, *steps, workers=0, **options):
    summary = datapipe.preprocess(corpus, output, recipe=recipe(*steps, **options), workers=workers)
    report = verify_dataset(str(output))
    assert report.ok, report.faults
    return summary


def rows(output):
    dataset = open_dataset(str(output))
    return dataset.take(list(range(len(dataset)))).to_pylist()


@pytest.fixture(scope="module")
def plain(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "plain"
    run(corpus, output)
    return rows(output)


def test_shuffle_is_a_permutation(corpus, plain, tmp_path):
    """Every row once, in an order that is the seed's alone: not the split's, not the shards'."""
    run(corpus, tmp_path / "a", "shuffle")
    shuffled = rows(tmp_path / "a")
    assert shuffled != plain
    assert sorted(map(str, shuffled)) == sorted(map(str, plain))
    run(corpus, tmp_path / "b", {"shuffle": {"shards": 3}}, split_bytes=20_000)
    assert rows(tmp_path / "b") == shuffled
    shards = open_dataset(str(tmp_path / "b")).manifest.shards
    assert len(shards) == 3
    assert all(abs(shard.rows - ROWS / 3) < ROWS / 10 for shard in shards), "about equal"
    run(corpus, tmp_path / "c", "shuffle", seed=1)
    assert rows(tmp_path / "c") != shuffled
    order = [row["n"] for row in shuffled]
    moved = sum(abs(place - n) for place, n in enumerate(order)) / ROWS
    assert moved == pytest.approx(ROWS / 3, rel=0.1), "rows travel as far as in a uniform permutation"


@pytest.mark.parametrize("descending", [[], ["x"], ["x", "label"]])
def test_sort(corpus, plain, tmp_path, descending):
    """The order of a stable sort of all rows in memory, nulls last, across shards."""
    run(corpus, tmp_path, {"sort": {"by": ["label", "x"], "descending": descending}})
    expected = list(plain)
    sign = -1 if "x" in descending else 1
    expected.sort(key=lambda row: (row["x"] is None, sign * (row["x"] or 0)))
    expected.sort(key=lambda row: row["label"], reverse="label" in descending)
    assert rows(tmp_path) == expected


def test_equal_rows_keep_their_order(corpus, plain, tmp_path):
    """Sorted by a column of few values, the rest of the order is the input's, and no shard holds it all."""
    run(corpus, tmp_path, {"sort": {"by": ["label"], "shards": 5}})
    expected = sorted(plain, key=lambda row: row["label"])
    assert rows(tmp_path) == expected
    assert max(shard.rows for shard in open_dataset(str(tmp_path)).manifest.shards) < ROWS / 3


def test_the_ledger_counts_what_moved(corpus, tmp_path):
    """Of every split: in + moved in = out + moved out + gone; all that moved out of splits moved into some."""
    run(corpus, tmp_path, {"sample": {"rate": 0.8}}, {"shuffle": {"shards": 12}})
    manifest = open_dataset(str(tmp_path)).manifest
    total = manifest.total()
    assert total.unaccounted == 0
    assert total.documents_in == ROWS
    assert total.moved_in == total.moved_out == total.out == ROWS - total.dropped["sampled_out"]
    assert all(entry.unaccounted == 0 for entry in manifest.ledger)
    assert [entry.out for entry in manifest.ledger if entry.shard] == [shard.rows for shard in manifest.shards]


def test_workers_and_a_second_run(corpus, tmp_path, tools):
    """Two processes publish the bytes of one; a second run does nothing."""
    steps = [{"mix": {"by": "label", "shares": {"a": 1, "b": 1}}}, "shuffle"]
    run(corpus, tmp_path / "one", *steps)
    run(corpus, tmp_path / "two", *steps, workers=2)
    assert tools.published(tmp_path / "one") == tools.published(tmp_path / "two")
    again = run(corpus, tmp_path / "one", *steps)
    assert again.tasks_run == 0


@pytest.mark.parametrize("split_bytes", [8000, 1 << 20])
def test_mix_is_exact(corpus, plain, tmp_path, split_bytes):
    """As many rows of each label as the shares say; the same rows however the input is cut; the rest has its reason."""
    counts = Counter(row["label"] for row in plain)
    mix = {"by": "label", "shares": {"a": 0.5, "b": 0.3, "c": 0.2}}
    summary = run(corpus, tmp_path / "all", {"mix": mix}, split_bytes=split_bytes)
    size = min(int(counts["a"] / 0.5), int(counts["b"] / 0.3), counts["c"] * 5)
    mixed = rows(tmp_path / "all")
    found = Counter(row["label"] for row in mixed)
    assert sum(found.values()) == size == summary.documents_out
    assert all(abs(found[label] - size * share) < 1 for label, share in mix["shares"].items())
    assert summary.dropped == {"mixed_out": ROWS - size}
    run(corpus, tmp_path / "some", {"mix": {**mix, "total": 100}}, split_bytes=20_000)
    some = rows(tmp_path / "some")
    assert Counter(row["label"] for row in some) == {"a": 50, "b": 30, "c": 20}
    ids = {row["row_id"] for row in mixed}
    assert all(row["row_id"] in ids for row in some), "a smaller mixture is part of a larger one"


def test_mix_keeps_or_drops_the_others(corpus, plain, tmp_path):
    """Rows of labels without a share are left out, or kept beside the mixture."""
    counts = Counter(row["label"] for row in plain)
    run(corpus, tmp_path / "drop", {"mix": {"by": "label", "shares": {"a": 1}, "total": 10}})
    assert Counter(row["label"] for row in rows(tmp_path / "drop")) == {"a": 10}
    run(corpus, tmp_path / "keep", {"mix": {"by": "label", "shares": {"a": 1}, "total": 10, "others": "keep"}})
    assert Counter(row["label"] for row in rows(tmp_path / "keep")) == {"a": 10, "b": counts["b"], "c": counts["c"]}


def test_mix_after_duplicates(corpus, tmp_path):
    """What other steps take out is out before the shares are counted; every row has one reason."""
    mix = {"by": "label", "shares": {"a": 1, "b": 1}}
    summary = run(corpus, tmp_path, {"exact_duplicates": {"columns": ["label", "x"]}}, {"mix": mix})
    found = Counter(row["label"] for row in rows(tmp_path))
    assert found["a"] == found["b"]
    assert summary.documents_in == summary.documents_out + summary.duplicates + summary.dropped["mixed_out"]


def test_a_label_without_rows(corpus, tmp_path):
    """A share of nothing would empty the mixture: the run says which label has no rows."""
    with pytest.raises(PreprocessError, match="'d'"):
        run(corpus, tmp_path, {"mix": {"by": "label", "shares": {"a": 1, "d": 1}}})


@pytest.mark.parametrize(
    "steps",
    [
        ["shuffle", {"exact_duplicates": {"columns": ["*"]}}],
        ["shuffle", {"sample": {"rate": 0.5}}],
        ["shuffle", "shuffle"],
        [{"sort": {"by": ["nothing"]}}],
        [{"mix": {"by": "nothing", "shares": {"a": 1}}}],
    ],
)
def test_an_order_that_cannot_run(corpus, tmp_path, steps):
    """After rows have moved nothing may drop or compare them; columns must be there. Refused before a byte is read."""
    with pytest.raises(ConfigError):
        run(corpus, tmp_path, *steps)


def test_shuffle_then_tokens(tmp_path, tools):
    """Documents too: shuffled, then tokenized and packed; explain still names what became of a row."""
    corpus = tools.write_corpus(tmp_path / "in")
    steps = [
        "decode",
        "unicode",
        "exact_duplicates",
        {"vocabulary": {"size": 400}},
        "shuffle",
        "tokenize",
        {"pack": {"seq_len": 64}},
    ]
    summary = datapipe.preprocess(
        corpus, tmp_path / "out", recipe={"name": "t", "steps": steps, "output": {"split_bytes": 12_000}}, workers=0
    )
    assert verify_dataset(str(tmp_path / "out")).ok
    assert summary.tokens
    total = open_dataset(str(tmp_path / "out")).manifest.total()
    assert total.moved_in == total.out == summary.documents_out


def record(split, rows_in, rows_out=None):
    return TaskRecord(
        key="k", stage="s", split=split, seconds=0, rows_in=rows_in, rows_out=rows_in if rows_out is None else rows_out
    )


@pytest.mark.parametrize(
    ("left", "came"),
    [
        ({0: record(0, 4), 1: record(1, 5)}, {0: record(0, 8)}),
        ({0: record(0, 3), 1: record(1, 6)}, {0: record(0, 9)}),
        ({0: record(0, 4)}, {0: record(0, 4)}),
        ({0: record(0, 4), 1: record(1, 5, 4)}, {0: record(0, 9)}),
    ],
)
def test_a_move_that_loses_rows(left, came):
    """Rows lost, invented or swapped between splits on the way stop the run."""
    ledger = RowLedger(2)
    ledger.add("read", {0: record(0, 4), 1: record(1, 5)})
    with pytest.raises(LedgerError):
        ledger.move("shuffle", left, came)


def test_a_move_into_more_splits():
    """Splits that rows come to first are lines of the ledger, with nothing in."""
    ledger = RowLedger(1, first=7)
    ledger.add("read", {7: record(7, 9)})
    ledger.move("shuffle", {7: record(7, 9)}, {7: record(7, 4), 9: record(9, 5)})
    ledger.add("write", {7: record(7, 4), 9: record(9, 5)})
    entries = ledger.entries()
    assert [(e.split, e.documents_in, e.moved_in, e.moved_out, e.out) for e in entries] == [
        (7, 9, 4, 9, 4), (8, 0, 0, 0, 0), (9, 0, 5, 0, 5),
    ]  # fmt: skip
    assert all(entry.unaccounted == 0 for entry in entries)
