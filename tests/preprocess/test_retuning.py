"""retune: what another threshold would do, from stored signals, is what a run with it does."""

import json

import pytest

import datapipe
from datapipe.errors import ConfigError, DatasetError
from datapipe.preprocess import retune

STEPS = ["decode", "html_to_text", "unicode", "gopher_quality@whitespace"]
LAST = {"name": "last", "steps": STEPS}
"""The rule is the last step: what it would let through is kept, for certain."""
THEN = {"name": "then", "steps": [*STEPS, "exact_duplicates"]}


@pytest.fixture(scope="module", params=[1, 3], ids=["one split", "splits"])
def made(request, corpus, tmp_path_factory):
    """Two datasets, by recipe."""
    found = {}
    for recipe in (LAST, THEN):
        output = tmp_path_factory.mktemp("retune") / recipe["name"]
        size = {1: 1 << 20, 3: 12_000}[request.param]
        datapipe.preprocess(corpus, output, recipe=recipe, workers=0, overrides={"output.split_bytes": size})
        found[recipe["name"]] = output
    return found


def run_with(corpus, output, recipe, **overrides):
    return datapipe.preprocess(corpus, output, recipe=recipe, workers=0, overrides=overrides)


@pytest.mark.parametrize(
    ("option", "value"),
    [("min_words", 1), ("min_words", 90), ("max_words", 100), ("min_stop_words", 8), ("max_mean_word_length", 3.7)],
)
def test_it_is_what_a_run_would_do(made, corpus, tmp_path, option, value):
    """Kept and dropped by reason under another threshold are exactly those of a run with it."""
    answer = retune(made["last"], {f"gopher_quality.{option}": value}).variants[0]
    really = run_with(corpus, tmp_path, LAST, **{f"gopher_quality.{option}": value})
    assert (answer.kept, answer.passing) == (really.documents_out, 0)
    assert answer.gone == {**really.dropped, **really.quarantined}
    before = retune(made["last"], {f"gopher_quality.{option}": value})
    assert before.kept == answer.kept + answer.lost - answer.gained
    assert before.documents_in == really.documents_in


@pytest.mark.parametrize("value", [1, 50, 90, 110])
def test_later_steps_bound_what_is_known(made, corpus, tmp_path, value):
    """Where a step follows, a run keeps at least what is certain and at most that with what passes unmeasured.

    Rows that only take the place of a lost one are told of.
    """
    answer = retune(made["then"], {"gopher_quality.min_words": value}).variants[0]
    really = run_with(corpus, tmp_path, THEN, **{"gopher_quality.min_words": value})
    assert answer.kept <= really.documents_out <= answer.kept + answer.passing + answer.survivors_lost
    assert answer.kept + answer.passing + sum(answer.gone.values()) == really.documents_in
    assert answer.kept <= answer.expected <= answer.kept + answer.passing


def test_what_passes_is_not_said_to_be_kept(made):
    """A row that a rule dropped and now passes has not met the steps after it: it is unknown, and they are named."""
    answer = retune(made["then"], {"gopher_quality.min_words": 1, "gopher_quality.min_stop_words": 0})
    (one,) = answer.variants
    assert (one.passing, one.gained, one.lost) == (3, 3, 0)
    assert one.kept == answer.kept
    assert answer.later == ("exact_duplicates",)
    assert {row.after for row in one.gained_rows} == {"?"}
    assert {row.before for row in one.gained_rows} == {"gopher_too_few_words"}
    assert "not measured by the steps after it (exact_duplicates)" in "\n".join(answer.lines())


def test_the_same_options_change_nothing(made):
    """Judged again by the thresholds that made it, the dataset is itself."""
    answer = retune(made["then"], {"gopher_quality.min_words": 50})
    (one,) = answer.variants
    assert (one.lost, one.gained, one.moved, one.passing) == (0, 0, 0, 0)
    assert one.gone == answer.gone
    assert one.bytes_kept == answer.bytes_kept > 0


def test_a_sweep(made):
    """Several values give a line each, several lists every combination; a stricter one keeps fewer."""
    answer = retune(
        made["then"], {"gopher_quality.min_words": [50, 80, 110], "gopher_quality.min_stop_words": [2, 7]}
    )  # fmt: skip
    assert [each.changes["gopher_quality@whitespace.min_words"] for each in answer.variants] == [
        50,
        50,
        80,
        80,
        110,
        110,
    ]
    kept = [each.kept for each in answer.variants]
    assert kept[0] > kept[2] > kept[4]
    assert kept[1] <= kept[0]
    assert len(answer.lines()) >= 8
    json.dumps(answer.as_dict())


def test_the_sample_does_not_depend_on_the_threshold_order(made):
    """The same rows are named, however often one asks."""
    ask = {"gopher_quality.min_words": 80}
    first, again = (retune(made["then"], ask).variants[0] for _ in range(2))
    assert first.lost_rows == again.lost_rows
    assert 0 < len(first.lost_rows) <= 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gopher_quality.stop_words": ["der", "die"]}, "decides what is measured"),
        ({"gopher_quality.min_wrods": 3}, "no option 'min_wrods'"),
        ({"gopher_quality.min_words": "many"}, "min_words"),
        ({"gopher_quality.min_words": -1}, "min_words"),
        ({"unicode.form": "NFKC"}, "keeps no signals"),
        ({"c4.x": 1}, "no step is called 'c4'"),
        ({"min_words": 1}, "'min_words'"),
        ({}, "nothing to change"),
        ({"gopher_quality.min_words": list(range(65))}, "65 combinations"),
        ({"gopher_quality.min_words": []}, "0 combinations"),
    ],
)
def test_what_cannot_be_answered(made, changes, message):
    """An option that is no threshold, or a value that none can have, is a ConfigError that says what to do."""
    with pytest.raises(ConfigError, match=message):
        retune(made["then"], changes)


def test_signals_of_another_version(made, monkeypatch):
    """Signals that another version of the step measured are not judged by this one."""
    from dataclasses import replace

    from datapipe.errors import PreprocessError
    from datapipe.steps import REGISTRY, registry

    spec = REGISTRY["gopher_quality@whitespace"]
    newer = {**REGISTRY, spec.name: replace(spec, version=spec.version + 1)}
    monkeypatch.setattr(registry, "REGISTRY", newer)
    with pytest.raises(PreprocessError, match="another version"):
        retune(made["then"], {"gopher_quality.min_words": 3})


def test_a_judge_that_contradicts_the_dataset(made, monkeypatch):
    """A judge that does not give the dataset under its own options is found out, before it is believed."""
    from dataclasses import replace

    from datapipe.errors import PreprocessError
    from datapipe.steps import REGISTRY, registry

    spec = REGISTRY["gopher_quality@whitespace"]

    def strict(signals, options):
        return spec.judge(signals, replace(options, min_words=options.min_words + 40))

    monkeypatch.setattr(registry, "REGISTRY", {**REGISTRY, spec.name: replace(spec, judge=strict)})
    with pytest.raises(PreprocessError, match="judged otherwise"):
        retune(made["then"], {"gopher_quality.min_words": 3})


def test_a_folder_that_no_run_made(tmp_path):
    """Shards without a recipe have no signals: DatasetError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="not made by preprocess"):
        retune(tmp_path, {"gopher_quality.min_words": 3})
