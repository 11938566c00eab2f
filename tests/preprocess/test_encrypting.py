"""A run with encrypted columns: what a person wrote lies nowhere in the open, before, during or after."""

import json
import re
from pathlib import Path

import pytest

from datapipe import open_dataset, preprocess
from datapipe.dataset import verify_dataset
from datapipe.errors import ConfigError, EncryptionError
from datapipe.preprocess import erase, explain
from datapipe.preprocess.survey import plan_run
from datapipe.storage.local import LocalStore

KEYS = {"columns": bytes(range(32)), "footer": b"0123456789abcdef"}
SECRET = re.compile(rb"PLANTED")
CLOSED = set()
"""Files that were looked at, as they were then."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A corpus in which every text and address holds the secret, also what is dropped, repeated and unreadable."""
    folder = tmp_path_factory.mktemp("encrypted")
    (folder / "vault.py").write_text(
        f"K = {KEYS!r}\ndef keys(name): return K[name]\ndef none(name): raise OSError(name)\n"
    )
    rows = [
        {"text": f"the document number {i} says PLANTED{i} and some words more", "email": f"PLANTED{i}@x.org"}
        for i in range(60)
    ]
    lines = [json.dumps(row) for row in [*rows, *rows[:5], {"text": "PLANTED short", "email": "PLANTED@x.org"}]]
    (folder / "in").mkdir()
    (folder / "in" / "a.jsonl").write_text("\n".join([*lines, '{"text": "PLANTED bad']) + "\n")
    (folder / "steps.py").write_text(
        "import pyarrow.compute as pc\n"
        "def long_enough(table):\n    return pc.greater(pc.utf8_length(table['text']), 20)\n"
    )
    return folder


def recipe(place, columns=("email", "text"), keys="keys", steps=(), **output):
    encryption = {"columns": list(columns), "keys": f"{place}/vault.py:{keys}"}
    return {
        "input": {"columns": ["email"]},
        "steps": ["decode", "language", f"{place}/steps.py:long_enough", "exact_duplicates", *steps],
        "output": {"row_group_rows": 16, "encryption": encryption, **output},
    }


def in_the_open(folder):
    """Files that hold the secret, compressed columns of Parquet and Arrow files included."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        about = path.stat()
        if (seen := (path, about.st_ino, about.st_mtime_ns, about.st_size)) in CLOSED:
            continue
        data = path.read_bytes()
        said = [data]
        for reader in (lambda d: pq.read_table(pa.BufferReader(d)), lambda d: pa.ipc.open_file(d).read_all()):
            try:
                said.append(str(reader(data).to_pylist()).encode())
            except (pa.ArrowException, OSError):
                continue
        if any(SECRET.search(each) for each in said):
            found.append(path.name)
        else:
            CLOSED.add(seen)
    return found


def test_what_was_written_lies_nowhere_in_the_open(place, tmp_path, monkeypatch):
    """Shards, rows between stages, rejects, signals, reports, records: looked at after every write of the run."""
    seen = []
    for name in ("put", "put_file"):
        real = getattr(LocalStore, name)

        def watched(self, path, source, real=real):
            result = real(self, path, source)
            if not path.startswith("_work/running"):
                seen.append((path, in_the_open(tmp_path / "out")))
            return result

        monkeypatch.setattr(LocalStore, name, watched)
    done = preprocess(place / "in", tmp_path / "out", recipe(place), workers=0)
    monkeypatch.undo()
    assert done.duplicates == 5
    assert done.dropped == {"long_enough": 1}
    assert sum(done.quarantined.values()) == 1
    assert len(seen) > 8
    assert [each for each in seen if each[1]] == []
    assert "withheld" in (tmp_path / "out" / "rejects" / "long_enough.jsonl").read_text()
    vault = f"{place}/vault.py:keys"
    read = open_dataset(tmp_path / "out", keys=vault)
    assert sorted(read.take(range(60)).column("email").to_pylist()) == sorted(f"PLANTED{i}@x.org" for i in range(60))
    assert verify_dataset(tmp_path / "out", keys=vault).faults == ()
    row_id = open_dataset(tmp_path / "out", ["row_id"]).take([7]).column("row_id")[0].as_py()
    assert explain(tmp_path / "out", row_id).outcome == "kept"
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert str(place) not in manifest
    assert not any(key.hex() in manifest for key in KEYS.values())
    # The same run elsewhere, and again: the same rows have the same name, and nothing is done twice.
    assert preprocess(place / "in", tmp_path / "other", recipe(place), workers=0).fingerprint == done.fingerprint
    again = preprocess(place / "in", tmp_path / "out", recipe(place), workers=0)
    assert (again.fingerprint, again.tasks_run) == (done.fingerprint, 0)
    # What is erased is erased with the keys, and not without.
    with pytest.raises(EncryptionError):
        erase(tmp_path / "out", [row_id])
    erased = erase(tmp_path / "out", [row_id], keys=vault)
    assert erased.rows == 1
    assert verify_dataset(tmp_path / "out", keys=vault).faults == ()
    assert preprocess(place / "in", tmp_path / "out", recipe(place), workers=0).fingerprint == erased.fingerprint


def test_a_run_that_ended_halfway_goes_on(place, tmp_path, monkeypatch):
    """Rows between stages are read by the next run, and the task that reads them is known by their checksum."""
    whole = preprocess(place / "in", tmp_path / "whole", recipe(place), workers=0)
    real, count = LocalStore.put_file, []

    def dies(self, path, source):
        count.append(path)
        if path.startswith("data/"):
            raise KeyboardInterrupt
        return real(self, path, source)

    monkeypatch.setattr(LocalStore, "put_file", dies)
    with pytest.raises(KeyboardInterrupt):
        preprocess(place / "in", tmp_path / "out", recipe(place), workers=0)
    monkeypatch.undo()
    assert in_the_open(tmp_path / "out") == []
    done = preprocess(place / "in", tmp_path / "out", recipe(place), workers=0)
    assert done.fingerprint == whole.fingerprint
    assert done.tasks_reused > 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": "arrow", "compression": "zstd"}, "parquet"),
        ({"columns_": ("row_id",)}, "ids"),
        ({"steps": [{"vocabulary": {"size": 300}}, "tokenize"], "columns_": ("text", "tokens")}, "vocabulary"),
        ({"steps": [{"vocabulary": {"size": 300}}, "tokenize"], "columns_": ("text",)}, "tokens"),
        ({"steps": [{"mix": {"by": "email", "shares": {"a": 1.0}}}]}, "mix"),
        ({"columns_": ("nope",)}, "nope"),
        ({"keys_": "none"}, "not to be had"),
        ({"keys_": "missing"}, "cannot be loaded"),
    ],
)
def test_what_would_let_a_value_out_is_refused(place, tmp_path, changed, said):
    changed = dict(changed)
    given = {"columns": changed.pop("columns_", ("email", "text")), "keys": changed.pop("keys_", "keys")}
    with pytest.raises((ConfigError, EncryptionError)) as caught:
        preprocess(place / "in", tmp_path / "out", recipe(place, **given, **changed), workers=0)
    assert said in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_misspelt_column_is_refused_while_the_run_is_planned(place, tmp_path):
    """Where the columns are known before a file is open: not when the last stage writes."""
    with pytest.raises(ConfigError, match="names 'emial'") as caught:
        plan_run(place / "in", tmp_path / "out", recipe(place, ("text", "emial")))
    assert "text, " in caught.value.expected
    assert "email" in caught.value.expected
    tables = {"input": {"text_column": None, "columns": ["*"]}, "steps": ["exact_duplicates"]}
    plan_run(place / "in", tmp_path / "out", {**recipe(place, ("mail",)), **tables})  # known when a file is open


def test_recipes_without_have_the_name_they_had():
    """A dataset of an earlier release can be appended to."""
    from datapipe.preprocess import load_recipe

    assert "encryption" not in load_recipe("text").as_dict()["output"]
    with pytest.raises(ConfigError, match="module:callable"):
        load_recipe("text", {"output.encryption": {"columns": ["text"], "keys": "a key itself"}})


def test_a_dry_run_writes_nothing_in_the_open(place, monkeypatch):
    """It tries the recipe on a little of the corpus, without the keys, in a folder that goes."""
    from datapipe.preprocess import plan_run
    from datapipe.preprocess.sampled_run import run_samples

    seen = []
    for name in ("put", "put_file"):
        real = getattr(LocalStore, name)

        def watched(self, path, source, real=real):
            result = real(self, path, source)
            seen.append(in_the_open(Path(self.local_path("x")).parent))
            return result

        monkeypatch.setattr(LocalStore, name, watched)
    run_samples(plan_run(place / "in", place / "none", {**recipe(place, keys="none"), "steps": ["decode"]}))
    assert seen
    assert not any(seen)
