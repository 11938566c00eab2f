"""A delivery is a new snapshot: compared with all before it, published whole, the old one still there to be read."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import datapipe
from datapipe.dataset import read_snapshot, verify_dataset
from datapipe.errors import ConfigError, CorpusError, DatasetError, IntegrityError, NotFoundError
from datapipe.storage import open_store

STEPS = {"steps": ["decode", "unicode", "exact_duplicates"], "output": {"split_bytes": 2_000}}
TOKENS = {
    "steps": ["decode", "exact_duplicates", {"vocabulary": {"size": 300}}, "tokenize", {"pack": {"seq_len": 16}}],
    "output": {"split_bytes": 2_000},
}


def deliver(folder, name, texts, **more):
    """A file of rows."""
    rows = [{"text": text, **{key: values[i] for key, values in more.items()}} for i, text in enumerate(texts)]
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def texts(seed, n=60):
    """Some texts, a third of them common to every delivery."""
    draw = random.Random(seed)
    return [f"text {draw.randrange(40) if i % 3 == 0 else draw.random()} and some more of it" for i in range(n)]


@pytest.fixture
def corpus(tmp_path):
    """Two deliveries: b.jsonl is not there yet."""
    deliver(tmp_path / "in", "a.jsonl", texts(1))
    return tmp_path / "in"


def rows(dataset):
    """(row id, text) of all rows."""
    opened = datapipe.open_dataset(dataset, columns=["row_id", "text"])
    return opened.take(range(len(opened))).to_pylist()


def files(folder):
    """Every published file, and its bytes: the work folder and what tells of a run apart."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in ("_work", "run.json", "rejects", "report.html")
    }


def told(folder):
    """What is said of the last run: its counts, and samples of what did not come through."""
    run = json.loads((folder / "run.json").read_text())
    counts = ("documents_in", "documents_out", "dropped", "duplicates", "quarantined", "snapshot", "fingerprint")
    rejects = {path.name: path.read_bytes() for path in (folder / "rejects").iterdir()}
    return {"run.json": {key: run[key] for key in counts}, **rejects}


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 2])
def test_an_append_keeps_the_rows_that_one_run_over_everything_keeps(corpus, tmp_path, workers):
    """Exact duplicates of earlier deliveries are found through the index; nothing that was there is read or changed."""
    first = datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    before = files(tmp_path / "out")
    deliver(corpus, "b.jsonl", texts(2))
    added = datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=workers, append=True)
    whole = datapipe.preprocess(corpus, tmp_path / "whole", STEPS, workers=0)
    assert (first.snapshot, added.snapshot, added.files_known) == (0, 1, 1)
    assert (added.documents_in, first.documents_in + added.documents_in) == (60, whole.documents_in)
    assert first.duplicates + added.duplicates == whole.duplicates > first.duplicates
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    after = files(tmp_path / "out")
    changed = [name for name, data in before.items() if after.get(name) != data]
    assert changed == ["manifest.json"]
    assert verify_dataset(tmp_path / "out").ok


def test_the_old_snapshot_stays_readable(corpus, tmp_path):
    """By its number, whole; a reader that has it open sees that there is a newer one when it asks."""
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
    old = datapipe.open_dataset(tmp_path / "out")
    assert old.newer() is None
    deliver(corpus, "b.jsonl", texts(2))
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    again = datapipe.open_dataset(tmp_path / "out", snapshot=0)
    assert again.fingerprint == old.fingerprint
    assert again.take(range(len(again))).equals(old.take(range(len(old))))
    new = old.newer()
    assert new.manifest.parent == old.fingerprint
    assert new.take(range(len(old))).equals(old.take(range(len(old))))
    assert read_snapshot(open_store(str(tmp_path / "out"))).snapshot == 1
    with pytest.raises(DatasetError, match="no snapshot 7\n.*one of 0, 1"):
        datapipe.open_dataset(tmp_path / "out", snapshot=7)


def test_nothing_new_changes_nothing(corpus, tmp_path):
    """The same files again, also under another place: the dataset stays byte for byte, and the run says so."""
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
    before = files(tmp_path / "out")
    shutil.copytree(corpus, tmp_path / "copy" / "in")
    for place in (corpus, tmp_path / "copy" / "in"):
        summary = datapipe.preprocess(place, tmp_path / "out", STEPS, workers=0, append=True)
        assert (summary.documents_in, summary.files_known, summary.snapshot) == (0, 1, 0)
        assert "nothing new" in summary.warnings[0]
    assert files(tmp_path / "out") == before


def test_a_delivery_without_a_row_is_one(corpus, tmp_path):
    """A day without anything new ends no job that runs every day; a dataset of its own may not be empty."""
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, 0)
    before = rows(tmp_path / "out")
    (corpus / "b.jsonl").write_bytes(b"")
    ran = datapipe.preprocess(corpus, tmp_path / "out", STEPS, 0, append=True)
    assert (ran.snapshot, ran.documents_in) == (1, 0)
    assert rows(tmp_path / "out") == before
    assert datapipe.preprocess(corpus, tmp_path / "out", STEPS, 0, append=True).snapshot == 1
    with pytest.raises(CorpusError, match="no document"):
        datapipe.preprocess(corpus / "b.jsonl", tmp_path / "other", STEPS, 0, append=True)


def test_a_delivery_of_repeats_alone_is_a_snapshot_without_a_shard(corpus, tmp_path):
    """It is on record that those files came, and where their rows went."""
    first = datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
    shutil.copy(corpus / "a.jsonl", corpus / "b.jsonl")
    summary = datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    assert (summary.documents_in, summary.duplicates, summary.snapshot) == (60, 60, 1)
    assert summary.fingerprint == first.fingerprint
    assert verify_dataset(tmp_path / "out").ok
    assert datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True).documents_in == 0


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
@pytest.mark.parametrize("kind", ["hashes_runs", "hashes"])
def test_a_damaged_index_is_found_before_a_delivery_is_compared_with_it(corpus, tmp_path, harm, kind):
    """A flipped bit among the known rows would let their repeats in as new; the dataset stays as it is.

    Both of runs, and of the files of splits that no run has (a run that is not whole is as if it were not there).
    """
    datapipe.preprocess(corpus, tmp_path / "out", recipe=STEPS, workers=0)
    before = files(tmp_path / "out")
    if kind == "hashes":
        manifest = tmp_path / "out" / "manifest.json"
        manifest.write_text(manifest.read_text().replace("hashes_runs@0-2/1", "hashes_runs@0-2/2"))
        before = files(tmp_path / "out")
    kept = next(path for path in sorted((tmp_path / "out" / "index" / kind).iterdir()) if path.stat().st_size > 200)
    data = kept.read_bytes()
    if harm == "remove":
        kept.unlink()
    else:
        middle = len(data) // 2
        kept.write_bytes(data[:middle] + (bytes([data[middle] ^ 1]) + data[middle + 1 :] if harm == "flip" else b""))
    deliver(corpus, "b.jsonl", texts(2))
    with pytest.raises((IntegrityError, NotFoundError), match=kept.name):
        datapipe.preprocess(corpus, tmp_path / "out", recipe=STEPS, workers=0, append=True)
    kept.write_bytes(data)
    after = files(tmp_path / "out")
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("then", ["more", "compact"])
def test_a_delivery_that_was_killed_is_told_of_by_whoever_comes_next(corpus, tmp_path, monkeypatch, then):
    """More files before it is run again: its own samples, report and figures were put aside, and are there."""
    from datapipe.preprocess.upkeep import compact

    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
    deliver(corpus, "b.jsonl", ["one", "one", "two"])
    shutil.copytree(tmp_path / "out", tmp_path / "straight")
    datapipe.preprocess(corpus, tmp_path / "straight", STEPS, workers=0, append=True)
    with monkeypatch.context() as patch:
        patch.setattr("datapipe.preprocess.run.put_in_place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    assert told(tmp_path / "out")["run.json"]["snapshot"] == 0
    if then == "compact":
        compact(tmp_path / "out")
        assert told(tmp_path / "out") == told(tmp_path / "straight")
        return
    deliver(corpus, "c.jsonl", ["three", "one"])
    for name in ("out", "straight"):
        summary = datapipe.preprocess(corpus, tmp_path / name, STEPS, workers=0, append=True)
        assert (summary.snapshot, summary.documents_in, summary.duplicates) == (2, 2, 1)
    assert told(tmp_path / "out") == told(tmp_path / "straight")
    runs = json.loads((tmp_path / "out" / "run.json").read_text())["runs"]
    assert [(run["snapshot"], run["documents_in"]) for run in runs] == [(0, 60), (1, 3), (2, 2)]
    assert not (tmp_path / "out" / "_work" / "telling.json").exists()


NEAR = {
    "steps": ["decode", "exact_duplicates", "repeated_lines", {"near_duplicates": {"threshold": 0.7}}],
    "output": {"split_bytes": 3_000},
}


def alike(seed, n=24):
    """Texts of two lines: copies, near copies and others of 30 that every delivery has."""
    base, draw = random.Random(0), random.Random(seed)
    known = [[f"w{base.randrange(500)}" for _ in range(40)] for _ in range(30)]
    found = []
    for _ in range(n):
        words = list(draw.choice(known)) if draw.random() < 0.8 else [f"v{draw.randrange(5000)}" for _ in range(40)]
        for _ in range(draw.randrange(2)):
            words[draw.randrange(40)] = f"x{draw.randrange(9)}"
        found.append(" ".join(words[:20]) + "\n" + " ".join(words[20:]))
    return found


def test_runs_say_what_the_files_say(corpus, tmp_path):
    """Three deliveries, compared with runs, with the files of each split, and with runs that were merged.

    The rows, the duplicates and the clusters are the same: runs are where to look, and nothing else.
    """
    from datapipe.preprocess.prior_runs import is_run
    from datapipe.preprocess.upkeep import compact

    def without_runs(folder):
        manifest = datapipe.open_dataset(folder).manifest
        index = tuple(entry for entry in manifest.index if not is_run(entry.name))
        assert len(index) < len(manifest.index)
        (folder / "manifest.json").write_bytes(manifest.model_copy(update={"index": index}).to_json())

    def clusters(folder):
        return {path.name for path in (folder / "index" / "clusters").iterdir()}

    outputs = {name: tmp_path / name for name in ("runs", "files", "merged")}
    counts = {name: [] for name in outputs}
    for number in range(3):
        deliver(corpus, f"{number}.jsonl", alike(number))
        (corpus / "a.jsonl").unlink(missing_ok=True)
        for name, output in outputs.items():
            if number and name == "files":
                without_runs(output)
            if number == 2 and name == "merged":
                assert compact(output).changed
            summary = datapipe.preprocess(corpus, output, NEAR, workers=0, append=True)
            counts[name].append((summary.documents_in, summary.documents_out, summary.duplicates))
    assert counts["runs"] == counts["files"] == counts["merged"]
    assert all(duplicates for _, _, duplicates in counts["runs"][1:])
    assert rows(outputs["runs"]) == rows(outputs["files"]) == rows(outputs["merged"])
    assert clusters(outputs["runs"]) == clusters(outputs["files"]) == clusters(outputs["merged"])
    assert verify_dataset(outputs["merged"]).ok


def test_the_vocabulary_stays(corpus, tmp_path):
    """Tokens of a delivery mean what the tokens before it mean: it is encoded, not trained on."""
    datapipe.preprocess(corpus, tmp_path / "out", TOKENS, workers=0)
    old = datapipe.open_dataset(tmp_path / "out").manifest
    deliver(corpus, "b.jsonl", ["quite another kind of text: zebra xylophone quartz " * 3] * 1 + texts(5))
    summary = datapipe.preprocess(corpus, tmp_path / "out", TOKENS, workers=0, append=True)
    new = datapipe.open_dataset(tmp_path / "out").manifest
    assert new.vocabulary == old.vocabulary
    assert new.shards[: len(old.shards)] == old.shards
    assert summary.tokens > old.tokens
    assert verify_dataset(tmp_path / "out").ok


def test_repeated_ids_are_found_across_deliveries(corpus, tmp_path):
    """… and a text whose only earlier copy went for its id is not taken for a duplicate."""
    recipe = {**STEPS, "input": {"id_column": "id"}}
    deliver(corpus, "a.jsonl", ["one", "two"], id=["x", "x"])
    datapipe.preprocess(corpus, tmp_path / "out", recipe, workers=0)
    deliver(corpus, "b.jsonl", ["two", "three"], id=["y", "x"])
    summary = datapipe.preprocess(corpus, tmp_path / "out", recipe, workers=0, append=True)
    assert (summary.quarantined, summary.duplicates) == ({"duplicate_id": 1}, 0)
    assert [row["text"] for row in rows(tmp_path / "out")] == ["one", "two"]


def test_what_cannot_be_added_is_refused(corpus, tmp_path):
    """Another recipe; a file that changed after it was delivered."""
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
    before = files(tmp_path / "out")
    deliver(corpus, "b.jsonl", texts(2))
    with pytest.raises(ConfigError, match="another recipe: its seed, steps differ"):
        datapipe.preprocess(corpus, tmp_path / "out", {**STEPS, "steps": ["decode"], "seed": 4}, workers=0, append=True)
    with (corpus / "a.jsonl").open("a") as file:
        file.write(json.dumps({"text": "late"}) + "\n")
    with pytest.raises(CorpusError, match="a.jsonl was delivered before, and has changed"):
        datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    assert files(tmp_path / "out") == before


def test_three_deliveries(corpus, tmp_path):
    """Each is compared with all before it; the first snapshot is still there after the third."""
    for number, name in enumerate("abc"):
        deliver(corpus, f"{name}.jsonl", texts(number))
        datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    datapipe.preprocess(corpus, tmp_path / "whole", STEPS, workers=0)
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    sizes = [len(datapipe.open_dataset(tmp_path / "out", snapshot=n)) for n in range(3)]
    assert sizes == sorted(set(sizes))
    assert verify_dataset(tmp_path / "out").ok


def test_an_append_reads_no_more_for_every_delivery_before_it(corpus, tmp_path, monkeypatch):
    """The newest manifest is understood once and older ones not at all; records of earlier tasks are listed once."""
    from datapipe.dataset import Manifest
    from datapipe.storage.local import LocalStore

    done = []

    def noted(kind, real):
        def call(self, place="", *args, **more):
            done.append((kind, str(place)))
            return real(self, place, *args, **more)

        return call

    parsed = Manifest.model_validate_json
    monkeypatch.setattr(Manifest, "model_validate_json", lambda data: done.append(("parse", "")) or parsed(data))
    for name in ("read", "list"):
        monkeypatch.setattr(LocalStore, name, noted(name, getattr(LocalStore, name)))
    found = []
    for number in range(4):
        shutil.rmtree(corpus)  # what was delivered before is looked at again where it is named again
        deliver(corpus, f"{number}.jsonl", [f"text {number} of many", f"more of {number}"])
        done.clear()
        datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
        # Each delivery has its list of files and its runs of hashes, and of those a part is read.
        found.append(sorted(each for each in done if not each[1].startswith("index/")))
    for calls in found[1:]:
        assert calls.count(("parse", "")) == 1
        assert not [path for _, path in calls if path.startswith("snapshots/0")]
        assert calls.count(("list", "_work/records")) == 1
    assert len(found[2]) == len(found[3])


def test_a_snapshot_is_kept_as_it_was_published(corpus, tmp_path):
    """Byte for byte, also where another release laid out its lines differently."""
    out = tmp_path / "out"
    datapipe.preprocess(corpus, out, STEPS, workers=0, append=True)
    written = json.dumps(json.loads((out / "manifest.json").read_text()), indent=2).encode()
    (out / "manifest.json").write_bytes(written)
    deliver(corpus, "b.jsonl", texts(2))
    datapipe.preprocess(corpus, out, STEPS, workers=0, append=True)
    assert [path.read_bytes() for path in (out / "snapshots").glob("00000-*.json")] == [written]
    assert verify_dataset(out).ok


def test_a_run_that_makes_the_dataset_anew_takes_the_snapshots_with_it(corpus, tmp_path):
    """Nothing of the old line is left behind: no shard, no manifest, no index."""
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
    deliver(corpus, "b.jsonl", texts(2))
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
    datapipe.preprocess(corpus, tmp_path / "whole", STEPS, workers=0)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_line_made_anew_by_a_run_that_was_killed_has_no_snapshot_of_the_one_before(corpus, tmp_path):
    """Killed before it removed them, of shards that are the same: snapshot 0 would be the old line's."""
    out = tmp_path / "out"
    old = datapipe.preprocess(corpus, out, STEPS, 0)
    deliver(corpus, "b.jsonl", texts(2))
    datapipe.preprocess(corpus, out, STEPS, 0, append=True)
    stale = {path: path.read_bytes() for path in (out / "snapshots").glob("00000-*")}
    new = datapipe.preprocess(corpus, out, STEPS, 0)
    assert new.snapshot == 0
    for path, data in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.with_name("00000-ffffffff.json").write_bytes(data)
    deliver(corpus, "c.jsonl", texts(3))
    datapipe.preprocess(corpus, out, STEPS, 0, append=True)
    assert read_snapshot(open_store(str(out)), 0).fingerprint == new.fingerprint != old.fingerprint


def test_files_that_a_run_anew_leaves_out_are_told(corpus, tmp_path):
    """Who forgot --append learns of it; a run over the same files, more files, or an append says nothing."""
    a, b = corpus / "a.jsonl", corpus / "b.jsonl"
    deliver(corpus, "b.jsonl", texts(2))
    assert not datapipe.preprocess(a, tmp_path / "out", STEPS, workers=0).warnings
    assert not datapipe.preprocess([a, b], tmp_path / "out", STEPS, workers=0).warnings
    assert not datapipe.preprocess(b, tmp_path / "out", STEPS, workers=0, append=True).warnings[1:]
    (warning,) = datapipe.preprocess(b, tmp_path / "out", STEPS, workers=0).warnings
    assert warning.startswith("a.jsonl had been delivered, and is no input of this run")


def test_an_append_that_is_cut_short_anywhere_ends_the_same(corpus, tmp_path, monkeypatch):
    """Whichever write it dies at, the old snapshot is whole until then, and the next run publishes the same bytes."""
    from datapipe.storage.local import LocalStore

    datapipe.preprocess(corpus, tmp_path / "base", STEPS, workers=0)
    deliver(corpus, "b.jsonl", texts(2))
    shutil.copytree(tmp_path / "base", tmp_path / "straight")
    datapipe.preprocess(corpus, tmp_path / "straight", STEPS, workers=0, append=True)
    expected, old = files(tmp_path / "straight"), datapipe.open_dataset(tmp_path / "base").fingerprint
    put, put_file = LocalStore.put, LocalStore.put_file
    left = 0

    def dying(write):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return write(*args, **kwargs)

        return call

    points = 0
    while True:
        output = tmp_path / f"cut-{points}"
        shutil.copytree(tmp_path / "base", output)
        left = points
        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "put", dying(put))
            patch.setattr(LocalStore, "put_file", dying(put_file))
            try:
                datapipe.preprocess(corpus, output, STEPS, workers=0, append=True)
                break
            except KeyboardInterrupt:
                pass
        opened = datapipe.open_dataset(output)
        assert opened.fingerprint in (old, json.loads(expected["manifest.json"])["fingerprint"])
        assert verify_dataset(output).ok
        datapipe.preprocess(corpus, output, STEPS, workers=0, append=True)
        assert files(output) == expected
        assert told(output) == told(tmp_path / "straight")
        points += 1
    assert points > 10


@pytest.mark.parametrize("first", [True, False])
def test_a_run_that_was_killed_after_it_published_is_told_of(corpus, tmp_path, monkeypatch, first):
    """Its ledger, rejects and report are there after the next run; what is not its delivery is not taken for it."""
    three = ["a text", "a text", "another"]
    deliver(corpus, "a.jsonl", three)
    if not first:
        datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0)
        deliver(corpus, "b.jsonl", [*three, "a third"])
    with monkeypatch.context() as patch:
        patch.setattr("datapipe.preprocess.run.put_in_place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    published = files(tmp_path / "out")
    if not first:
        # Without the file there is nothing to do, and what was put aside tells of the delivery all the same.
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        (corpus / "b.jsonl").rename(tmp_path / "b.jsonl")
        summary = datapipe.preprocess(corpus, tmp_path / "copy", STEPS, workers=0, append=True)
        (tmp_path / "b.jsonl").rename(corpus / "b.jsonl")
        assert (summary.documents_in, told(tmp_path / "copy")["run.json"]["duplicates"]) == (0, 3)
    summary = datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True)
    assert (summary.tasks_run, summary.documents_in, summary.duplicates) == ((0, 3, 1) if first else (0, 4, 3))
    assert files(tmp_path / "out") == published
    assert told(tmp_path / "out")["run.json"]["snapshot"] == (0 if first else 1)
    assert summary.fingerprint in (tmp_path / "out" / "report.html").read_text()
    assert datapipe.preprocess(corpus, tmp_path / "out", STEPS, workers=0, append=True).documents_in == 0


@pytest.mark.slow  # `test_an_append_that_is_cut_short_anywhere_ends_the_same` keeps most of it without processes
@pytest.mark.parametrize("step", [100, 1], ids=["one kill", "many kills"])
def test_a_reader_never_sees_a_snapshot_in_the_making(corpus, tmp_path, step):
    """A writer is killed by SIGKILL, at a later write each time; whoever opens the dataset has all of a snapshot.

    Rows and checksums of what is open are those of the old snapshot or the new one, and go from one to the other once.
    """
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"name": "r", **STEPS}))
    datapipe.preprocess(corpus, tmp_path / "out", str(recipe), workers=0)
    old = rows(tmp_path / "out")
    deliver(corpus, "b.jsonl", texts(2))
    datapipe.preprocess(corpus, tmp_path / "whole", str(recipe), workers=0)
    right = (old, rows(tmp_path / "whole"))
    ended, seen, wrong = threading.Event(), [], []

    def read():
        while not ended.is_set():
            found = rows(tmp_path / "out")
            seen.append(right.index(found) if found in right else -1)
            wrong.extend(verify_dataset(tmp_path / "out").faults)

    def killed(moment):
        command = [sys.executable, str(Path(__file__).parent / "killed.py"), str(corpus), str(tmp_path / "out"), "0"]
        command += [moment, json.dumps({"append": True}), str(recipe)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0

    reader = threading.Thread(target=read)
    reader.start()
    try:
        kills = 0
        while killed(f"after:{(1 if step == 1 else 9) + step * kills}"):
            kills += 1
    finally:
        ended.set()
        reader.join()
    assert kills >= (5 if step == 1 else 1)
    assert (wrong, sorted(seen), seen[0]) == ([], seen, 0)
    assert rows(tmp_path / "out") == right[1]
    assert verify_dataset(tmp_path / "out").ok
