"""Compact, roll back and expire a dataset that preprocess made, and append to it afterwards."""

import json

import pytest

import datapipe
from datapipe import dataset
from datapipe.dataset import expire as expire_in
from datapipe.dataset import open_dataset, snapshots_of, verify_dataset, writer
from datapipe.errors import DatasetError, OutputError
from datapipe.preprocess import erase, explain
from datapipe.preprocess.output_folder import claim
from datapipe.preprocess.upkeep import compact, expire, rollback
from datapipe.storage import open_store

STEPS = {"steps": ["decode", "exact_duplicates"], "output": {"split_bytes": 300}}
PACKED = {
    "steps": ["decode", {"vocabulary": {"size": 300}}, "tokenize", {"pack": {"seq_len": 8}}],
    "output": {"split_bytes": 300},
}


def deliver(folder, name, first, n=12):
    """A file of rows, half of them as those of any delivery that begins six earlier."""
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"text": f"the text of number {i}"}) for i in range(first, first + n))
    (folder / name).write_text("\n".join(lines) + "\n")


def append(corpus, output, recipe=STEPS):
    """One more delivery."""
    return datapipe.preprocess(corpus, output, recipe, workers=0, append=True)


def rows(dataset, **more):
    """(row id, text) of all rows."""
    opened = open_dataset(str(dataset), columns=["row_id", "text"], **more)
    return opened.take(range(len(opened))).to_pylist()


def test_a_line_that_is_merged_appended_to_and_rolled_back(tmp_path):
    """Rows are those of one run over everything throughout; an explanation finds a row in its merged shard."""
    corpus, output = tmp_path / "in", tmp_path / "out"
    deliver(corpus, "a.jsonl", 0)
    append(corpus, output)
    deliver(corpus, "b.jsonl", 6)
    append(corpus, output)
    before = open_dataset(str(output))
    done = compact(output)
    assert done.changed
    assert (done.snapshot, done.fingerprint, done.shards) == (2, before.fingerprint, 1)
    assert done.shards_before > 3
    assert compact(output).changed is False
    assert rows(output) == rows(output, snapshot=1)
    last = rows(output)[-1]
    found = explain(output, last["row_id"])
    shard = open_dataset(str(output)).manifest.shards[0]
    assert f"in {shard.path}, row {shard.rows - 1}" in "\n".join(found.lines())
    deliver(corpus, "c.jsonl", 12)
    summary = append(corpus, output)
    assert (summary.snapshot, summary.documents_in, summary.duplicates) == (3, 12, 6)
    datapipe.preprocess(corpus, tmp_path / "whole", STEPS, workers=0)
    assert rows(output) == rows(tmp_path / "whole")
    assert verify_dataset(str(output)).ok
    # Back: what was delivered since is new again, and gives the same content.
    whole = open_dataset(str(output)).fingerprint
    rollback(output, 1)
    again = append(corpus, output)
    assert (again.snapshot, again.documents_in, again.duplicates, again.fingerprint) == (5, 12, 6, whole)
    assert rows(output) == rows(tmp_path / "whole")
    gone = expire(output, keep=1, grace=0)
    assert gone.snapshots == (0, 1, 2, 3, 4)
    assert f"{shard.path}" in gone.removed
    assert verify_dataset(str(output)).ok
    assert rows(output) == rows(tmp_path / "whole")
    assert append(corpus, output).documents_in == 0


def test_packed_rows_are_found_in_a_merged_shard(tmp_path):
    """Where a document's tokens are is shown by row, and within the rows that its split wrote."""
    corpus, output = tmp_path / "in", tmp_path / "out"
    deliver(corpus, "a.jsonl", 0)
    append(corpus, output, PACKED)
    deliver(corpus, "b.jsonl", 40)
    append(corpus, output, PACKED)
    dataset = open_dataset(str(output))
    last = dataset.take([len(dataset) - 1]).column("row_id")[0].as_py()
    assert compact(output).shards == 1
    assert f"row {len(dataset) - 1}" in "\n".join(explain(output, last).lines())


def test_nobody_else_may_be_at_it(tmp_path):
    """Each holds the output, and is refused while a run does."""
    deliver(tmp_path / "in", "a.jsonl", 0)
    append(tmp_path / "in", tmp_path / "out")
    with claim(open_store(str(tmp_path / "out"))):
        for call in (lambda: compact(tmp_path / "out"), lambda: rollback(tmp_path / "out", 0),
                     lambda: expire(tmp_path / "out", keep=1)):  # fmt: skip
            with pytest.raises(OutputError, match="another run holds"):
                call()
    with pytest.raises(DatasetError, match="no manifest"):
        compact(tmp_path)


@pytest.mark.parametrize(
    "call",
    [compact, lambda out: rollback(out, 0), lambda out: erase(out, open_dataset(out).take([0])["row_id"].to_pylist())],
    ids=["compact", "rollback", "erase"],
)
def test_a_snapshot_that_came_meanwhile_is_not_taken_back(tmp_path, monkeypatch, call):
    """Who lost a remote output's lease (a laptop slept) publishes over nothing but what it began with."""
    for number, name in enumerate("ab"):
        deliver(tmp_path / "in", f"{name}.jsonl", number)
        append(tmp_path / "in", tmp_path / "out")
    real, store = dataset.publish, open_store(str(tmp_path / "out"))
    before = dataset.read_snapshot(store)
    newer = before.model_copy(update={"snapshot": before.snapshot + 1, "parent": before.fingerprint})

    def late(*args, **more):
        real(store, newer)
        return real(*args, **more)

    for place in (dataset, writer):
        monkeypatch.setattr(place, "publish", late)
    with pytest.raises(OutputError, match="since this one began"):
        call(tmp_path / "out")
    assert store.read("manifest.json") == newer.to_json()


def test_age_is_counted_from_the_delivery_that_replaced_it(tmp_path, monkeypatch):
    """`run.json` knows when that was."""
    corpus, output = tmp_path / "in", tmp_path / "out"
    for name in "abc":
        deliver(corpus, f"{name}.jsonl", ord(name))
        append(corpus, output)
    run = json.loads((output / "run.json").read_text())
    for each, day in zip(run["runs"], (1, 2, 3), strict=True):
        each["ended"] = f"2026-01-0{day}T00:00:00+00:00"
    (output / "run.json").write_text(json.dumps(run))
    monkeypatch.setattr("datapipe.preprocess.upkeep.time.time", lambda: 1767398400.0 + 3600)  # 3 January, 01:00
    assert expire(output, older_than=86400).snapshots == (0,)
    assert expire(output, older_than=3000).snapshots == (1,)


def test_a_killed_delivery_beside_files_that_wait_to_go(tmp_path, monkeypatch):
    """An append spares what a reader of an expired snapshot may be at, and removes it once it is due."""
    corpus, output = tmp_path / "in", tmp_path / "out"
    deliver(corpus, "a.jsonl", 0)
    append(corpus, output)
    compact(output)
    small = set(expire(output, keep=1, grace=3600).waiting)
    assert small
    deliver(corpus, "b.jsonl", 40)
    append(corpus, output)
    assert all((output / path).exists() for path in small)
    store = open_store(str(output))
    expire_in(store, grace=0, now=0.0)
    assert all((output / path).exists() for path in small) is False
    assert [each.kind for each in snapshots_of(store)] == ["compacted", "delivery"]
    assert verify_dataset(str(output)).ok
