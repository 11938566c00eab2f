"""Erased rows: gone from every file, kept from coming back, whatever is killed; everything else stays as it was."""

import contextlib
import json
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe import Cache, open_dataset, preprocess
from datapipe.dataset import keep_snapshot, read_snapshot, snapshots_of, verify_dataset
from datapipe.errors import ConfigError, DatasetError, InputError, IntegrityError
from datapipe.preprocess import erase, explain
from datapipe.preprocess.suppression import ERASED, read_suppression
from datapipe.preprocess.upkeep import rollback
from datapipe.storage import open_store
from datapipe.storage.local import LocalStore

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
RECIPE = {
    "steps": ["decode", "language", "exact_duplicates", {"near_duplicates": {"threshold": 0.8}}],
    "output": {"row_group_rows": 16, "compression": "none"},
}


def text(draw, number, words=40):
    return f"PLANTED{number}x " + " ".join(draw.choice(WORDS) for _ in range(words))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus, and a dataset of it: 60 documents, one of them twice, one row that cannot be read."""
    folder = tmp_path_factory.mktemp("erase")
    draw = random.Random(5)
    rows = [{"text": text(draw, i)} for i in range(60)]
    (folder / "in").mkdir()
    (folder / "in" / "a.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, rows[7]]) + '{"text": "PLANTEDbad\n'
    )
    preprocess(folder / "in", folder / "out", RECIPE, workers=0)
    return folder


def copy(made, tmp_path, name="out"):
    return shutil.copytree(made / name, tmp_path / name)


def rows_of(folder):
    """(id, text) of every row."""
    table = open_dataset(folder, ["row_id", "text"])
    return [tuple(row.values()) for row in table.take(range(table.num_rows)).to_pylist()]


def ids_of(folder, *numbers):
    return [next(row_id for row_id, said in rows_of(folder) if f"PLANTED{n}x" in said) for n in numbers]


def told(folder, word):
    """Files in which a word is, stored as it is or in a column."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        with contextlib.suppress(pa.ArrowException, OSError):
            data += str(pq.read_table(pa.BufferReader(data)).to_pylist()).encode()
        if word.encode() in data:
            found.append(str(path.relative_to(folder)))
    return found


def test_what_is_erased_is_gone_and_stays_gone(made, tmp_path):
    """Shards, index, rejects, signals, records, reports, the cache; then the same once more, and a rerun."""
    out = copy(made, tmp_path)
    before = rows_of(out)
    (kept_id, dropped_id) = ids_of(out, 7, 3)
    assert {"rejects/duplicate.jsonl", "report.html"} <= {*told(out, "PLANTED7x")}
    cache = Cache(tmp_path / "cache", "10 MB")
    open_dataset(out, cache=cache).take(range(60))
    done = erase(out, [kept_id, dropped_id], caches=[tmp_path / "cache"])
    assert (done.erased, done.duplicates, done.rows, done.before) == (3, 1, 2, 0)
    assert done.cached_bytes > 0
    for gone in ("PLANTED7x", "PLANTED3x", f"{kept_id}'", f'{kept_id}"', f"{dropped_id}'"):
        assert told(out, gone) == [], gone
    assert told(tmp_path / "cache", "PLANTED7x") == []
    assert rows_of(out) == [row for row in before if row[0] not in (kept_id, dropped_id)]
    assert verify_dataset(out).faults == ()
    total = read_snapshot(open_store(str(out))).total()
    assert (total.dropped, total.duplicates, total.unaccounted) == ({"erased": 3}, 0, 0)
    with pytest.raises(DatasetError, match="no row has the id"):
        explain(out, kept_id)
    assert explain(out, ids_of(out, 20)[0]).where.rows
    # Again: nothing to do; and made anew from the same input: the same dataset.
    assert erase(out, [kept_id]).before == 1
    again = preprocess(made / "in", out, RECIPE, workers=0)
    assert again.fingerprint == done.fingerprint
    assert again.dropped == {"erased": 3}
    assert told(out, "PLANTED7x") == []
    with pytest.raises(InputError, match="nothing was erased"):
        erase(out, ["in/a.jsonl:1", ids_of(out, 5)[0]])
    with pytest.raises(InputError, match="nothing was erased"):
        erase(out, ids_of(out, 5), caches=[tmp_path / "no-cache"])
    assert ids_of(out, 5)


def test_deliveries_forget_as_well(made, tmp_path):
    """Of an appended dataset: rows of any delivery, of which the index is compared with no more."""
    out, source = copy(made, tmp_path), tmp_path / "in"
    source.mkdir()
    (source / "a.jsonl").write_bytes((made / "in" / "a.jsonl").read_bytes())
    draw = random.Random(9)
    more = [{"text": text(draw, 100 + i)} for i in range(8)]
    (source / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    preprocess(source, out, RECIPE, workers=0, append=True)
    gone = ids_of(out, 4, 103)
    done = erase(out, gone)
    assert (done.rows, done.shards) == (2, 2)
    with pytest.raises(DatasetError, match="no snapshot"):
        open_dataset(out, snapshot=0)
    assert told(out, "PLANTED4x") == told(out, "PLANTED103x") == []
    # The same words under another id are another row, that nothing knows.
    (source / "c.jsonl").write_text(json.dumps(more[3]) + "\n" + json.dumps(more[2]) + "\n")
    appended = preprocess(source, out, RECIPE, workers=0, append=True)
    assert (appended.documents_out, appended.duplicates) == (1, 1)
    assert verify_dataset(out).faults == ()
    assert not {*gone} & {row_id for row_id, _ in rows_of(out)}


@pytest.mark.parametrize("mode", ["concat", "best_fit"])
def test_packed_rows_are_packed_anew(tmp_path, mode):
    """Of an erased document no token is left, of the others all; rows can still be told, and erased from once more."""
    draw = random.Random(2)
    (tmp_path / "in").mkdir()
    lines = [json.dumps({"text": text(draw, i, draw.randint(5, 60))}) + "\n" for i in range(24)]
    (tmp_path / "in" / "a.jsonl").write_text("".join(lines))
    recipe = {
        "steps": ["decode", {"vocabulary": {"size": 400}}, "tokenize", {"pack": {"seq_len": 64, "mode": mode}}],
        "output": {"row_group_rows": 8},
    }
    preprocess(tmp_path / "in", tmp_path / "out", recipe, workers=0)
    ids = [f"in/a.jsonl:{sum(map(len, lines[:n]))}" for n in (11, 12)]

    def tokens():
        table = open_dataset(tmp_path / "out").take(range(open_dataset(tmp_path / "out").num_rows))
        return sorted(
            t for row in table.to_pylist() for t, s in zip(row["tokens"], row["segment_ids"], strict=True) if s
        )

    tokenizer = next((tmp_path / "out").glob("tokenizer-*.json"))
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer))
    before, documents = tokens(), [json.loads(line)["text"] for line in lines]
    for number, row_id in zip((11, 12), ids, strict=True):
        where = explain(tmp_path / "out", row_id).where
        assert where.rows
        done = erase(tmp_path / "out", [row_id])
        assert done.erased == 1
        assert any("vocabulary" in note for note in done.notes)
        assert verify_dataset(tmp_path / "out").faults == ()
        left = tokens()
        mine = encoder.encode(documents[number], add_special_tokens=False).ids
        assert 0 <= len(before) - len(left) - len(mine) <= 2  # and what the step puts around a document
        before = left
    assert explain(tmp_path / "out", f"in/a.jsonl:{sum(map(len, lines[:18]))}").where.rows


def test_moved_rows_and_the_last_one(made, tmp_path):
    """Of shuffled rows the shards' own ids tell which; a dataset of which all is erased is one of no rows."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"PLANTED{i}x words"}) + "\n" for i in range(4))
    )
    recipe = {"steps": ["decode", {"shuffle": {}}], "output": {"row_group_rows": 2}}
    preprocess(tmp_path / "in", tmp_path / "out", recipe, workers=0)
    assert erase(tmp_path / "out", ids_of(tmp_path / "out", 2)).rows == 1
    assert verify_dataset(tmp_path / "out").faults == ()
    assert told(tmp_path / "out", "PLANTED2x") == []
    erase(tmp_path / "out", [row_id for row_id, _ in rows_of(tmp_path / "out")])
    assert open_dataset(tmp_path / "out").num_rows == 0
    assert verify_dataset(tmp_path / "out").faults == ()
    # It can be added to, also by a delivery of which nothing is left.
    for name, said in (("b", ""), ("c", json.dumps({"text": "something else"}))):
        (tmp_path / "in" / f"{name}.jsonl").write_text(said)
        added = preprocess(tmp_path / "in", tmp_path / "out", recipe, workers=0, append=True)
        assert open_dataset(tmp_path / "out").num_rows == added.documents_out == bool(said)


class Killed(BaseException):
    """What a test's kill raises: nothing catches it."""


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_killed_anywhere_it_ends_when_it_is_run_again(made, tmp_path, monkeypatch, every):
    """Before every write and every removal that it makes: the next call leaves what an undisturbed one does."""
    whole = copy(made, tmp_path / "whole")
    (row_id,) = ids_of(whole, 7)
    left, count = [10**9], [0]
    for name in ("put", "put_file", "delete"):
        real = getattr(LocalStore, name)

        def counted(self, *args, real=real):
            if self.url.startswith(str(tmp_path)):
                count[0] += 1
                if count[0] > left[0]:
                    raise Killed
            return real(self, *args)

        monkeypatch.setattr(LocalStore, name, counted)
    fingerprint = erase(whole, [row_id]).fingerprint
    moments = count[0]
    assert moments > 8
    for moment in range(0, moments, every):
        out = copy(made, tmp_path / str(moment))
        left[0], count[0] = moment, 0
        with pytest.raises(Killed):
            erase(out, [row_id])
        left[0] = 10**9
        assert open_dataset(out).num_rows in (59, 60)
        done = erase(out, [row_id])
        assert done.fingerprint == fingerprint
        assert told(out, "PLANTED7x") == []
        assert {p.name for p in (out / "data").iterdir()} == {p.name for p in (whole / "data").iterdir()}


def test_what_is_on_the_list_and_still_there_goes_whoever_asks(made, tmp_path):
    """Killed after the list was written, and run again without ids: the row had stayed, and nothing would tell."""
    out = copy(made, tmp_path)
    (row_id,) = ids_of(out, 7)
    store = open_store(str(out))
    listed = read_suppression(store)
    listed.add([row_id])
    store.put(ERASED, listed.to_json())
    done = erase(out)
    assert (done.rows, done.erased, done.before) == (1, 2, 0)
    (left,) = snapshots_of(store)
    assert (left.kind, left.added) == ("changed", -1)
    assert told(out, "PLANTED7x") == []
    keep_snapshot(store, read_snapshot(store).model_copy(update={"snapshot": 0}))
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="no erasure of .* was interrupted; nothing was changed"):
        erase(out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    store.put(ERASED, read_suppression(store).to_json(unfinished=True))
    assert erase(out).removed == 1
    assert read_suppression(store).unfinished is False


def test_what_was_rolled_back_is_erased_too(made, tmp_path):
    """An older snapshot holds it, and could be rolled back to; nor does it come back with its delivery."""
    source, out = shutil.copytree(made / "in", tmp_path / "in"), copy(made, tmp_path)
    said = json.dumps({"text": text(random.Random(8), 80)})
    again = (source / "a.jsonl").read_text().splitlines()[20]
    (source / "b.jsonl").write_text(f"{said}\n{said}\n{again}\n")
    preprocess(source, out, RECIPE, workers=0, append=True)
    (row_id,) = ids_of(out, 80)
    rollback(out, 0)
    with pytest.raises(InputError, match="nothing was erased"):
        erase(out, [row_id, "in/b.jsonl:1"])
    assert told(out, "PLANTED80x")
    whole = shutil.copytree(out, tmp_path / "whole")
    copy_id = f"in/b.jsonl:{2 * len(said) + 2}"
    noted = erase(shutil.copytree(out, tmp_path / "noted"), [copy_id])
    assert (noted.erased, noted.duplicates) == (1, 0)
    assert ids_of(out, 20)[0] in noted.notes[0]
    done = erase(out, [row_id])
    assert (done.erased, done.duplicates, done.before, done.rows, done.snapshot) == (2, 1, 0, 0, 2)
    assert "rolled back" in done.notes[0]
    assert told(out, "PLANTED80x") == []
    assert [each.number for each in snapshots_of(open_store(str(out)))] == [2]
    assert erase(out, [row_id]).before == 1
    ran = preprocess(source, out, RECIPE, workers=0, append=True)
    assert (ran.dropped, ran.duplicates) == ({"erased": 2}, 1)
    assert told(out, "PLANTED80x") == []
    # With a row of the newest snapshot, which is rewritten.
    both = erase(whole, [row_id, *ids_of(whole, 7)])
    assert (both.erased, both.duplicates, both.rows, both.snapshot) == (4, 2, 1, 3)
    assert told(whole, "PLANTED80x") == told(whole, "PLANTED7x") == []


def test_a_file_of_its_own_is_named(tmp_path):
    """What has been delivered is known by file name, which may be a person's: the answer says that it stays."""
    (tmp_path / "in").mkdir()
    for name in ("ada", "bob"):
        (tmp_path / "in" / f"{name}.txt").write_text(f"what {name} wrote")
    preprocess(tmp_path / "in", tmp_path / "out", {"steps": ["decode"]}, workers=0)
    row_id = next(row_id for row_id, said in rows_of(tmp_path / "out") if "ada" in said)
    done = erase(tmp_path / "out", [row_id])
    assert [note for note in done.notes if "in/ada.txt" in note and "bob" not in note]
    assert {path.split("/")[1] for path in told(tmp_path / "out", "ada")} == {"sources"}


def test_what_is_dropped_as_a_duplicate_is_told(made, tmp_path):
    """Erasing the copy leaves the text in the dataset: the answer names the row that has it."""
    out = copy(made, tmp_path)
    lines = (out / "rejects" / "duplicate.jsonl").read_text().splitlines()
    copy_id, survivor = json.loads(lines[0])["row_id"], ids_of(out, 7)[0]
    done = erase(out, [copy_id])
    assert (done.erased, done.rows) == (1, 0)
    assert survivor in done.notes[0]
    assert told(out, f"{copy_id}'") == []


@pytest.mark.parametrize("kind", ["data", "index/hashes"])
def test_damage_is_not_written_anew_with_a_good_checksum(made, tmp_path, kind):
    """A flipped bit in what is to be rewritten: the other rows would be vouched for. Nothing is erased."""
    out = copy(made, tmp_path)
    (path,) = (out / kind).iterdir()
    data = path.read_bytes()
    at = data.find(b"PLANTED20x") if kind == "data" else len(data) - 30
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and "_work" not in p.parts}
    with pytest.raises(IntegrityError, match=path.name):
        erase(out, ["in/a.jsonl:0"])
    left = {p: p.read_bytes() for p in before}
    assert left == before
    assert open_dataset(out).num_rows == 60


def test_a_damaged_list_is_no_empty_one(made, tmp_path):
    """Without the list of what is erased, it would come back: a run and an erasure stop."""
    out = copy(made, tmp_path)
    erase(out, ids_of(out, 1))
    assert "in/a.jsonl" not in (out / "erased.json").read_text()
    for damage in ('{"salt": "00", "ids": []}', "[]", '{"salt": 3', '{"salt": "' + "0" * 32 + '", "ids": ["x"]}'):
        (out / "erased.json").write_text(damage)
        with pytest.raises(IntegrityError, match="come back"):
            erase(out)
        with pytest.raises(IntegrityError):
            preprocess(made / "in", out, RECIPE, workers=0)
    with pytest.raises(ConfigError):
        erase(out, [""])
