"""explain: one row's way, from what was stored when it went."""

import json
import random
import re
import shutil

import pytest

import datapipe
from datapipe.dataset import open_dataset
from datapipe.errors import DatasetError, ManifestError
from datapipe.preprocess import explain, retune

PLAIN = {
    "name": "plain",
    "steps": ["decode", "html_to_text", "unicode", "gopher_quality@whitespace", "exact_duplicates"],
}


@pytest.fixture(scope="module")
def plain(corpus, tmp_path_factory):
    """Documents, a row each, over several splits."""
    output = tmp_path_factory.mktemp("explain") / "plain"
    datapipe.preprocess(corpus, output, recipe=PLAIN, workers=0, overrides={"output.split_bytes": 12_000})
    return output


@pytest.fixture(scope="module", params=["concat", "best_fit"])
def packed(request, corpus, tmp_path_factory, tools):
    output = tmp_path_factory.mktemp("explain") / request.param
    overrides = {**tools.overrides, "pack.mode": request.param}
    datapipe.preprocess(corpus, output, workers=0, overrides=overrides)
    return output


def rejects(folder, reason):
    return [json.loads(line) for line in (folder / "rejects" / f"{reason}.jsonl").read_text().splitlines()]


def test_a_kept_row_is_where_it_says(plain):
    """Of every row of the dataset: kept, in that shard, in that row and row group."""
    dataset = open_dataset(str(plain))
    for number, row in enumerate(dataset.take(list(range(0, len(dataset), 7))).to_pylist()):
        found = explain(plain, row["row_id"])
        assert (found.outcome, found.step, found.survivor) == ("kept", None, None)
        (where,) = found.where.rows
        blocks = [i for i, group in enumerate(dataset.row_groups) if group.path == found.where.shard]
        before = sum(dataset.row_groups[i].rows for i in range(blocks[0]))
        assert before + where.row == number * 7
        assert [step.step for step in found.steps] == PLAIN["steps"]


def test_a_dropped_row_has_its_scores(plain):
    """The rule, what it measured and what it was judged by; later steps are not spoken of."""
    (row, *_) = rejects(plain, "gopher_too_few_words")
    found = explain(plain, row["row_id"])
    assert (found.outcome, found.step) == ("dropped", "gopher_quality@whitespace")
    assert found.reason == "gopher_too_few_words"
    last = found.steps[-1]
    assert last.signals["gopher_whitespace.solid_words"] == 2
    assert last.thresholds["min_words"] == 50
    assert found.where is None
    assert found.bytes == len(b"too short")
    assert "min_words 50" in "\n".join(found.lines())


def test_a_duplicate_names_its_survivor(plain):
    """The survivor is a row of the dataset with the same text, and was kept."""
    for row in rejects(plain, "duplicate"):
        found = explain(plain, row["row_id"])
        assert found.outcome == "duplicate"
        assert found.step == "exact_duplicates"
        assert row["detail"] == f"equal to {found.survivor.row_id}"
        assert found.survivor.outcome == "kept"
        assert explain(plain, found.survivor.row_id).outcome == "kept"


def test_a_near_duplicate_says_how_near(tmp_path):
    """The survivor by id, and the true similarity to the document that it is linked with; of a later delivery too."""
    draw = random.Random(11)
    words = [f"w{draw.randrange(5000)}" for _ in range(300)]
    (tmp_path / "in").mkdir()
    texts = [" ".join(words), " ".join([*words, "more"]), " ".join(f"x{draw.randrange(5000)}" for _ in range(300))]
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = {"name": "near", "steps": ["decode", "near_duplicates"]}
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)
    second = f"in/a.jsonl:{len(json.dumps({'text': texts[0]})) + 1}"
    found = explain(tmp_path / "out", "in/a.jsonl:0")
    assert (found.outcome, found.step, found.reason) == ("duplicate", "near_duplicates", "near_duplicate")
    assert found.survivor.row_id == second
    # Word 5-grams: all 296 of the one are among the 297 of the other.
    assert found.detail == f"similarity {296 / 297:.3f} to {second}"
    (tmp_path / "in" / "b.jsonl").write_text(json.dumps({"text": texts[2] + " end"}) + "\n")
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0, append=True)
    later = explain(tmp_path / "out", "in/b.jsonl:0")
    assert (later.outcome, later.survivor.outcome) == ("duplicate", "kept")
    assert later.detail == f"similarity {296 / 297:.3f} to {later.survivor.row_id}"
    assert explain(tmp_path / "out", "in/a.jsonl:0").detail == found.detail


def test_a_quarantined_row(plain):
    """Garbage: by decode, with no position missing."""
    found = explain(plain, "corpus/garbage.txt:0")
    assert (found.outcome, found.step, found.reason) == ("quarantined", "decode", "not_text")


def test_a_row_that_the_reader_could_not_read(tmp_path):
    """It never was a row of the table; it is found, with the reader's reason."""
    (tmp_path / "in").mkdir()
    good = json.dumps({"text": "the word and of to be that have with " * 20})
    (tmp_path / "in" / "a.jsonl").write_text(f"{good}\n{{broken\n{good} \n")
    recipe = {"name": "r", "steps": ["decode"]}
    summary = datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)
    (bad,) = summary.rejects
    found = explain(tmp_path / "out", bad.row_id)
    assert (found.outcome, found.step, found.reason) == ("quarantined", "read", bad.reason)
    assert found.position is None
    assert found.detail == bad.detail
    assert explain(tmp_path / "out", "in/a.jsonl:0").outcome == "kept"


def test_packed_rows_hold_the_document(packed, corpus):
    """The rows and segments that explain names are, token for token, the document; none is named for two documents."""
    from tokenizers import Tokenizer

    dataset = open_dataset(str(packed))
    tokenizer = Tokenizer.from_file(str(packed / dataset.manifest.vocabulary.path))
    rows = dataset.take(list(range(len(dataset)))).to_pylist()
    first_of = {}
    for i, group in enumerate(dataset.row_groups):
        first_of.setdefault(group.path, sum(dataset.row_groups[j].rows for j in range(i)))
    lines = [json.loads(line) for line in (corpus / "a.jsonl").read_text().splitlines()]
    offset, claimed = 0, set()
    for line in lines:
        found = explain(packed, f"corpus/a.jsonl:{offset}")
        assert found.outcome == "kept"
        tokens = []
        for where in found.where.rows:
            row = rows[first_of[found.where.shard] + where.row]
            claim = (found.where.shard, where.row, where.segment)
            assert claim not in claimed
            claimed.add(claim)
            tokens += [t for t, s in zip(row["tokens"], row["segment_ids"], strict=True) if s == where.segment]
        assert len(tokens) == found.labels["n_tokens"]
        assert tokenizer.decode(tokens) == line["text"]
        offset += len(json.dumps(line)) + 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("corpus/a.jsonl:1", "'$"),
        ("corpus/A.jsonl:0", "no row of a file 'corpus/A.jsonl'$"),
        ("corpus/a.jsonl", "that is a file"),
        ("nonsense", "'$"),
        ("", "'$"),
        ("corpus/a.jsonl:99999999", "'$"),
    ],
)
def test_an_unknown_id(plain, given, why):
    """The nearest ids are in the message; that the file is unknown, or the id is a file's name, is said."""
    with pytest.raises(DatasetError, match="no row has the id") as caught:
        explain(plain, given)
    assert "corpus/" in caught.value.expected
    assert re.search(why, caught.value.got)


def test_an_id_that_was_given_twice(tmp_path):
    """The first row, and the later ones of the same id: quarantined."""
    (tmp_path / "in").mkdir()
    draw = random.Random(3)
    texts = [" ".join(draw.choice(["the", "of", "and", "cat"]) for _ in range(60)) for _ in range(3)]
    lines = [json.dumps({"id": i, "text": t}) for i, t in zip(["x", "y", "x"], texts, strict=True)]
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(lines) + "\n")
    recipe = {"name": "r", "steps": ["decode"], "input": {"id_column": "id"}}
    datapipe.preprocess(tmp_path / "in", tmp_path / "out", recipe=recipe, workers=0)
    found = explain(tmp_path / "out", "x")
    assert (found.outcome, found.position) == ("kept", 0)
    (other,) = found.same_id
    assert (other.outcome, other.reason, other.position) == ("quarantined", "duplicate_id", 2)
    assert found.file is None
    assert "the same id once more" in found.lines()


@pytest.mark.parametrize("mover", ["shuffle", {"sort": {"by": ["media_type"]}}])
@pytest.mark.parametrize("last", [[], ["vocabulary", "tokenize", "pack"]])
def test_rows_that_were_moved(corpus, tmp_path, mover, last):
    """After sort or shuffle a kept row is found by its id; where rows are packed, that is not possible, and is said."""
    steps = ["decode", "html_to_text", "unicode", "gopher_quality@whitespace", "exact_duplicates", *last[:1], mover]
    overrides = {"output.split_bytes": 12_000, **({"vocabulary.size": 300} if last else {})}
    recipe = {"name": "m", "steps": [*steps, *last[1:]]}
    datapipe.preprocess(corpus, tmp_path / "out", recipe=recipe, workers=0, overrides=overrides)
    dataset = open_dataset(str(tmp_path / "out"))
    ids = dataset.take(list(range(len(dataset)))).column("row_id").to_pylist()
    first = {}
    for i, group in enumerate(dataset.row_groups):
        first.setdefault(group.path, sum(dataset.row_groups[j].rows for j in range(i)))
    for number in (0, len(ids) // 2, len(ids) - 1):
        found = explain(tmp_path / "out", ids[number])
        assert found.outcome == "kept"
        if last:
            assert found.where.rows == ()
            assert "moved between splits" in found.where.remark
        else:
            assert first[found.where.shard] + found.where.rows[0].row == number
    assert explain(tmp_path / "out", rejects(tmp_path / "out", "duplicate")[0]["row_id"]).outcome == "duplicate"
    answer = retune(tmp_path / "out", {"gopher_quality.min_words": 5})
    assert answer.kept == dataset.manifest.total().out


def test_every_row_has_a_story(plain, corpus):
    """Each line of a file is found, and the outcomes add up to the ledger."""
    offset, outcomes = 0, []
    for line in (corpus / "c.jsonl").read_bytes().splitlines(keepends=True):
        outcomes.append(explain(plain, f"corpus/c.jsonl:{offset}").outcome)
        offset += len(line)
    assert len(outcomes) == 32
    assert set(outcomes) <= {"kept", "duplicate", "dropped"}


def test_the_answer_is_json(plain):
    """as_dict goes through JSON."""
    (row, *_) = rejects(plain, "duplicate")
    for row_id in (row["row_id"], "corpus/a.jsonl:0"):
        assert json.loads(json.dumps(explain(plain, row_id).as_dict()))["row_id"] == row_id


def test_an_index_file_that_is_damaged(plain, tmp_path):
    """A signals file that was cut short: IntegrityError, which says what to do."""
    from datapipe.errors import IntegrityError

    shutil.copytree(plain, tmp_path / "copy")
    for file in (tmp_path / "copy" / "index" / "signals").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(IntegrityError, match="signals"):
        explain(tmp_path / "copy", "corpus/a.jsonl:0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plain: plain["recipe"].update(steps=[{"name": "decode"}]), "its recipe has no list of steps"),
        (lambda plain: plain["recipe"].update(steps=7), "its recipe has no list of steps"),
        (lambda plain: plain["recipe"].update(steps=plain["recipe"]["steps"][:1]), "names a step that its recipe"),
    ],
)
def test_a_manifest_that_was_changed(plain, tmp_path, change, said):
    """What does not fit together is an error that says so, from `explain` as from `retune`."""
    shutil.copytree(plain, tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    for ask in (lambda: explain(tmp_path / "out", "x"), lambda: retune(tmp_path / "out", {"a.b": 1})):
        with pytest.raises(ManifestError, match=said):
            ask()
