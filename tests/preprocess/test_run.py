"""The whole way, on small real files: the rows, the ledger, the same bytes, and only what must be redone."""

import json
import random
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import datapipe
from datapipe.dataset import open_dataset, verify_dataset
from datapipe.errors import ConfigError, CorpusError, LedgerError, PreprocessError, SchemaError

PLAIN = {
    "name": "plain",
    "steps": ["decode", "html_to_text", "unicode", "gopher_quality@whitespace", "exact_duplicates"],
}
"""Documents out, one row each: what became of every one can be seen."""


def run(corpus, output, **options):
    return datapipe.preprocess(corpus, output, **{"workers": 0, **options})


def test_the_dataset_is_what_the_ledger_says(undisturbed, corpus, tmp_path, tools):
    """Every kind of file is read; each document is out, dropped, a duplicate or quarantined; the dataset verifies."""
    _, summary = undisturbed
    assert summary.documents_in == 120 + 7 + 3 + 4
    assert summary.dropped == {"gopher_too_few_words": 3}
    assert summary.duplicates == 8
    assert summary.quarantined == {"not_text": 1}
    assert summary.documents_out == 134 - 3 - 8 - 1
    output = tmp_path / "out"
    again = run(corpus, output, overrides=tools.overrides)
    report = verify_dataset(str(output))
    assert report.ok, report.faults
    dataset = open_dataset(str(output))
    assert dataset.num_rows == again.rows == report.rows
    assert dataset.manifest.total().documents_in == 134
    assert dataset.manifest.tokens == again.tokens
    assert again.shards == len(dataset.manifest.shards) > 2
    assert dataset.schema.names == ["row_id", "tokens", "segment_ids", "n_tokens", "n_documents"]


def test_no_token_is_lost(corpus, tmp_path, tools):
    """What the rows hold, less the padding, is every surviving text, decoded back, in order."""
    from tokenizers import Tokenizer

    run(corpus, tmp_path / "plain", recipe=PLAIN)
    run(corpus, tmp_path / "packed", overrides=tools.overrides)
    dataset = open_dataset(str(tmp_path / "packed"))
    tokenizer = Tokenizer.from_str((tmp_path / "packed" / dataset.manifest.vocabulary.path).read_text())
    rows = dataset.take(list(range(len(dataset))))
    ids = [
        token
        for tokens, segments in zip(
            rows.column("tokens").to_pylist(), rows.column("segment_ids").to_pylist(), strict=True
        )
        for token, segment in zip(tokens, segments, strict=True)
        if segment
    ]
    assert len(ids) == dataset.manifest.tokens
    text = tokenizer.decode(ids, skip_special_tokens=False)
    assert text.split("<|endoftext|>")[:-1] == tools.all_texts(tmp_path / "plain")


def test_a_moved_corpus_gives_the_same_bytes(undisturbed, corpus, tmp_path, tools):
    """Nothing of where the input and the output lie is in what is published."""
    shutil.copytree(corpus, tmp_path / "elsewhere" / corpus.name)
    run(tmp_path / "elsewhere" / corpus.name, tmp_path / "deep" / "er", overrides=tools.overrides)
    assert tools.published(tmp_path / "deep" / "er") == undisturbed[0]
    text = b"".join(data for path, data in undisturbed[0].items() if path.endswith(("json", "jsonl"))).decode()
    assert str(tmp_path) not in text
    assert str(corpus) not in text


def test_a_second_run_does_nothing(corpus, tmp_path, tools):
    """Everything is reused, and what is published stays as it was."""
    first = run(corpus, tmp_path, overrides=tools.overrides)
    before = tools.published(tmp_path)
    second = run(corpus, tmp_path, overrides=tools.overrides)
    assert (second.tasks_run, second.tasks_reused) == (0, first.tasks_run)
    assert tools.published(tmp_path) == before
    assert second.documents_in == first.documents_in
    assert second.rejects == first.rejects


def test_fresh_does_everything_again(corpus, tmp_path, tools):
    """… and gives the same bytes."""
    first = run(corpus, tmp_path, overrides=tools.overrides)
    before = tools.published(tmp_path)
    again = run(corpus, tmp_path, overrides=tools.overrides, fresh=True)
    assert (again.tasks_run, again.tasks_reused) == (first.tasks_run, 0)
    assert tools.published(tmp_path) == before


def test_a_late_change_reruns_the_suffix(corpus, tmp_path, tools):
    """Another sequence length packs anew: rows, duplicates, sample and vocabulary are as they were."""
    first = run(corpus, tmp_path / "a", overrides=tools.overrides)
    changed = {**tools.overrides, "pack.seq_len": 32}
    second = run(corpus, tmp_path / "a", overrides=changed)
    assert second.tasks_run == first.shards
    assert second.tasks_reused == first.tasks_run - first.shards
    run(corpus, tmp_path / "b", overrides=changed)
    assert tools.published(tmp_path / "a") == tools.published(tmp_path / "b")


def test_an_early_change_without_effect_stops_there(corpus, tmp_path, tools):
    """A threshold that no row meets reruns the stage that has it, and nothing after: the rows are the same."""
    first = run(corpus, tmp_path, overrides=tools.overrides)
    again = run(corpus, tmp_path, overrides={**tools.overrides, "gopher_quality.max_words": 99_999})
    splits = len(datapipe.preprocess.plan_run(str(corpus), str(tmp_path), overrides=tools.overrides).splits)
    assert again.tasks_run == splits
    assert again.tasks_reused == first.tasks_run - splits


def test_added_files_rerun_only_themselves(tmp_path, tools):
    """Of the stages that work split by split, the splits that were there are reused."""
    folder = tmp_path / "in"
    folder.mkdir()
    draw = random.Random(5)
    for name in "abc":
        (folder / f"{name}.txt").write_text(tools.document(draw, 300, 300))
    overrides = {"output.split_bytes": 100}
    first = run(folder, tmp_path / "out", recipe=PLAIN, overrides=overrides)
    assert first.tasks_run == 3 + 1 + 3
    (folder / "d.txt").write_text(tools.document(draw, 300, 300))
    second = run(folder, tmp_path / "out", recipe=PLAIN, overrides=overrides)
    assert second.tasks_run == 1 + 1 + 1
    assert second.tasks_reused == 3 + 3
    assert second.documents_out == 4
    run(folder, tmp_path / "afresh", recipe=PLAIN, overrides=overrides)
    assert tools.published(tmp_path / "out") == tools.published(tmp_path / "afresh")


def test_what_is_published_is_replaced_whole(corpus, tmp_path, tools):
    """Another recipe into the same folder: its dataset alone is left, without shards or tokenizers of the old one."""
    run(corpus, tmp_path / "a", overrides=tools.overrides)
    run(corpus, tmp_path / "a", recipe=PLAIN)
    run(corpus, tmp_path / "b", recipe=PLAIN)
    assert tools.published(tmp_path / "a") == tools.published(tmp_path / "b")


def test_the_number_of_buckets_changes_nothing(corpus, tmp_path, tools, monkeypatch):
    """One bucket of hashes or sixteen: the same rows survive."""
    from datapipe.preprocess import survey

    run(corpus, tmp_path / "one", recipe=PLAIN)
    real = survey.build_plan
    monkeypatch.setattr(survey, "build_plan", lambda *a, **k: real(*a, **{**k, "bucket_bytes": 4000}))
    summary = run(corpus, tmp_path / "many", recipe=PLAIN)
    assert summary.tasks_run > 16
    # The index has a run of hashes for each bucket, and the manifest names them; all rows and their fates are the same.
    kept = [{k: v for k, v in tools.published(tmp_path / n).items() if "_runs/" not in k} for n in ("many", "one")]
    fingerprints = {json.loads(files.pop("manifest.json"))["fingerprint"] for files in kept}
    assert kept[0] == kept[1]
    assert len(fingerprints) == 1


def test_without_work_the_output_is_the_dataset_alone(corpus, tmp_path, tools):
    """keep_work=False leaves no rows between stages behind; the next run is the same bytes from anew."""
    first = run(corpus, tmp_path, overrides=tools.overrides, keep_work=False)
    assert not [path for path in (tmp_path / "_work").rglob("*") if path.is_file() and path.stat().st_size > 100]
    before = tools.published(tmp_path)
    again = run(corpus, tmp_path, overrides=tools.overrides, keep_work=False)
    assert again.tasks_run == first.tasks_run
    assert tools.published(tmp_path) == before


def test_the_work_folder_does_not_grow(corpus, tmp_path, tools):
    """Work that no longer belongs to the plan goes when the new dataset is published."""

    def files():
        return sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "_work").rglob("*") if path.is_file())

    run(corpus, tmp_path, overrides=tools.overrides)
    before = files()
    run(corpus, tmp_path, overrides={**tools.overrides, "unicode.strip": False})
    run(corpus, tmp_path, overrides=tools.overrides)
    assert files() == before


def test_a_tokenizer_of_ones_own(corpus, tmp_path, tools):
    """With a tokenizer by path there is no vocabulary to train; it is published with the dataset, its path is not."""
    run(corpus, tmp_path / "a", overrides=tools.overrides)
    vocabulary = open_dataset(str(tmp_path / "a")).manifest.vocabulary
    mine = tmp_path / "mine.json"
    mine.write_bytes((tmp_path / "a" / vocabulary.path).read_bytes())
    recipe = {"steps": ["decode", "unicode", {"tokenize": {"tokenizer": str(mine)}}, {"pack": {"seq_len": 32}}]}
    run(corpus, tmp_path / "b", recipe=recipe)
    manifest = open_dataset(str(tmp_path / "b")).manifest
    assert manifest.vocabulary == vocabulary
    assert verify_dataset(str(tmp_path / "b")).ok
    assert str(tmp_path) not in (tmp_path / "b" / "manifest.json").read_text()
    with pytest.raises(ConfigError, match="there is no file"):
        run(corpus, tmp_path / "c", recipe={"steps": ["decode", {"tokenize": {"tokenizer": "/nowhere.json"}}]})


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_formats_and_columns(corpus, tmp_path, format):
    """Shards in either format, with the columns asked for and no other."""
    overrides = {"output.format": format, "output.columns": ["text", "row_id"]}
    run(corpus, tmp_path, recipe=PLAIN, overrides=overrides)
    dataset = open_dataset(str(tmp_path))
    assert dataset.schema.names == ["text", "row_id"]
    assert dataset.manifest.shards[0].path.endswith(format)
    assert verify_dataset(str(tmp_path)).ok


def test_carried_columns(tmp_path, tools):
    """A column named in the recipe comes through beside the text."""
    draw = random.Random(0)
    rows = [{"text": tools.document(draw), "lang": f"l{i % 3}"} for i in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(tmp_path / "a.jsonl", tmp_path / "out", recipe=PLAIN, overrides={"input.columns": ["lang"]})
    table = open_dataset(str(tmp_path / "out")).take(list(range(20)))
    assert table.column("lang").to_pylist() == [row["lang"] for row in rows]


def test_rejects_are_there_to_look_at(undisturbed):
    """A sample of each reason with row id, step, excerpt; of a duplicate, the row that survives it."""
    files, summary = undisturbed
    rows = {
        path.removeprefix("rejects/").removesuffix(".jsonl"): [json.loads(line) for line in data.decode().splitlines()]
        for path, data in files.items()
        if path.startswith("rejects/")
    }
    assert sorted(rows) == ["duplicate", "gopher_too_few_words", "not_text"]
    assert [row["excerpt"] for row in rows["gopher_too_few_words"]] == ["too short"] * 3
    assert rows["gopher_too_few_words"][0]["step"] == "gopher_quality@whitespace"
    assert {row["detail"].split(":")[0] for row in rows["duplicate"]} == {"equal to corpus/a.jsonl"}
    assert rows["not_text"][0]["row_id"] == "corpus/garbage.txt:0"
    assert len(summary.rejects) == 12


def test_on_error_stop_names_the_first_bad_row(corpus, tmp_path, tools):
    """The run ends at bad data, also at bad data that an earlier run had counted; nothing is published."""
    for _ in range(2):
        with pytest.raises(PreprocessError, match=r"garbage\.txt:0: not_text"):
            run(corpus, tmp_path, overrides=tools.overrides, on_error="stop")
        assert not (tmp_path / "manifest.json").exists()
    assert run(corpus, tmp_path, overrides=tools.overrides).quarantined == {"not_text": 1}
    with pytest.raises(PreprocessError, match="not_text"):
        run(corpus, tmp_path, overrides=tools.overrides, on_error="stop")


def test_progress_counts_every_task(corpus, tmp_path, tools):
    """Stages in order, each task told once, the documents of the corpus in the first."""
    told = []
    summary = run(corpus, tmp_path, overrides=tools.overrides, on_progress=told.append)
    assert list(dict.fromkeys(p.stage for p in told)) == ["clean", "duplicates", "sample", "vocabulary", "write"]
    for number in range(1, 6):
        mine = [p for p in told if p.number == number]
        assert [p.done for p in mine] == list(range(1, mine[0].total + 1))
    assert max(p.documents for p in told if p.stage == "clean") == summary.documents_in
    assert len(told) == summary.tasks_run


def test_a_rule_that_touches_nothing_is_told(corpus, tmp_path):
    """A filter without effect is warned of; one that takes everything leaves nothing to publish, and says why."""
    recipe = {"steps": ["decode", {"gopher_quality@whitespace": {"min_words": 1, "min_stop_words": 0}}]}
    assert any("touched none" in warning for warning in run(corpus, tmp_path / "a", recipe=recipe).warnings)
    with pytest.raises(PreprocessError, match="no row is left.*dropped by gopher_too_few_words"):
        run(corpus, tmp_path / "b", recipe=PLAIN, overrides={"gopher_quality.min_words": 10_000})
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_a_failed_run_leaves_the_old_dataset(corpus, tmp_path, tools):
    """What was published before opens and verifies after a run that published nothing."""
    run(corpus, tmp_path, recipe=PLAIN)
    before = tools.published(tmp_path)
    with pytest.raises(PreprocessError):
        run(corpus, tmp_path, recipe=PLAIN, overrides={"gopher_quality.min_words": 10_000})
    # What the run that failed has put into the index goes with the next one that publishes.
    assert before.items() <= tools.published(tmp_path).items()
    assert verify_dataset(str(tmp_path)).ok


def test_a_ledger_that_does_not_add_up_publishes_nothing(corpus, tmp_path, monkeypatch):
    """A row lost by our own fault stops the run."""
    from datapipe.preprocess.tally import Tally

    real = Tally.written
    monkeypatch.setattr(Tally, "written", lambda self, table: real(self, table.slice(1)))
    with pytest.raises(LedgerError, match="rows in"):
        run(corpus, tmp_path, recipe=PLAIN)
    assert not (tmp_path / "manifest.json").exists()


def test_columns_of_two_types_are_named(tmp_path, tools):
    """Two inputs that give a column two types cannot be one dataset: SchemaError, nothing published."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = tools.document(random.Random(0))
    pq.write_table(pa.table({"text": [text], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": [text + "x"], "n": ["one"]}), tmp_path / "b.parquet")
    inputs = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    for split_bytes in (1, 10**9):
        with pytest.raises(SchemaError):
            run(
                inputs,
                tmp_path / "out",
                recipe=PLAIN,
                overrides={"input.columns": ["n"], "output.split_bytes": split_bytes},
            )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_input_that_changes_while_it_is_read(corpus, tmp_path, monkeypatch):
    """A file that is written to during the run is not recorded as what it was."""
    import datapipe.corpus

    folder = shutil.copytree(corpus, tmp_path / "in")
    real = datapipe.corpus.read_piece

    def read_and_touch(piece, **options):
        yield from real(piece, **options)
        if piece.file.path.endswith("note.txt"):
            (folder / "note.txt").write_text("another text")

    monkeypatch.setattr(datapipe.corpus, "read_piece", read_and_touch)
    with pytest.raises(CorpusError, match=r"note\.txt changed while it was read"):
        run(folder, tmp_path / "out", recipe=PLAIN)


def test_memory_and_other_remote_outputs(corpus, undisturbed, tools, tmp_path):
    """An output that is no folder of this machine holds the same bytes; a second run reuses them."""
    from datapipe.storage import open_store

    url = f"memory://{tmp_path.name}/out"
    run(corpus, url, overrides=tools.overrides)
    store = open_store(url)
    assert tools.published_of({entry.path: store.read(entry.path) for entry in store.list()}) == undisturbed[0]
    assert run(corpus, url, overrides=tools.overrides).tasks_run == 0
    with pytest.raises(ConfigError, match="workers=0"):
        run(corpus, url, workers=2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.lists(
            st.sampled_from(["long0", "long1", "long2", "long3", "short", "", " ", "\x00" * 60, "\ufeff"]), max_size=6
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(1200, 8000),
)
def test_every_document_is_accounted_for(tmp_path_factory, tools, files, split_bytes):
    """For any small corpus and cut: the survivors are the first of each good text, and the ledger adds up per split."""
    texts = {f"long{i}": tools.document(random.Random(i)) for i in range(4)}
    folder = tmp_path_factory.mktemp("law")
    (folder / "in").mkdir()
    for number, rows in enumerate(files):
        lines = "".join(json.dumps({"text": texts.get(row, row)}) + "\n" for row in rows)
        (folder / "in" / f"{number}.jsonl").write_text(lines)
    documents = [row for rows in files for row in rows]
    survivors = list(dict.fromkeys(row for row in documents if row in texts))
    options = {"recipe": PLAIN, "overrides": {"output.split_bytes": split_bytes}}
    if not survivors:
        with pytest.raises((PreprocessError, CorpusError)):
            run(folder / "in", folder / "out", **options)
        return
    summary = run(folder / "in", folder / "out", **options)
    assert tools.all_texts(folder / "out") == [texts[row] for row in survivors]
    assert summary.documents_in == len(documents)
    assert summary.duplicates == sum(row in texts for row in documents) - len(survivors)
    gone = sum(summary.dropped.values()) + sum(summary.quarantined.values())
    assert summary.documents_in == summary.documents_out + summary.duplicates + gone
    manifest = open_dataset(str(folder / "out")).manifest
    assert all(entry.unaccounted == 0 for entry in manifest.ledger)
    assert sum(entry.documents_in for entry in manifest.ledger) == len(documents)
