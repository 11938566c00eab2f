"""augment_text: a function of (seed, row id, epoch) and the text; offline and through a loader the same."""

from __future__ import annotations

import json
import pickle
import random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import datapipe
from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps, steps_transform
from datapipe.steps.augment_text import EDITS, SIGNALS, AugmentTextOptions

KEYS = Keys(seed=5, epoch=1)
OFF = {f"{name}_rate": 0.0 for name in EDITS}
TEXT = "The quick brown fox, in order to jump, leaps over the lazy dog; it is a big dog."
SYNONYMS = "quick\tfast\trapid\nlazy\tidle\nbig\tlarge\thuge\nleaps\tjumps\n"
TEMPLATES = "in order to {do}\tto {do}\tso as to {do}\nit is a {what}\tthis is a {what}\n"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Options that name a table of synonyms and one of templates."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "synonyms.tsv").write_text("# word, synonyms\n" + SYNONYMS)
    (folder / "templates.tsv").write_text(TEMPLATES)
    return {"synonyms": str(folder / "synonyms.tsv"), "templates": str(folder / "templates.tsv")}


def table_of(texts):
    return pa.table({"row_id": [f"doc:{i}" for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})


def augmented(texts, options, keys=KEYS):
    return run_steps(table_of(texts), [bind("augment_text", options)], keys).table["text"].to_pylist()


@pytest.mark.parametrize(
    ("name", "rate", "expected"),
    [
        (
            "template",
            1.0,
            [
                "The quick brown fox, to jump, leaps over the lazy dog; this is a big dog.",
                "The quick brown fox, to jump, leaps over the lazy dog; this is a big dog.",
            ],
        ),
        (
            "synonym",
            0.2,
            [
                "The fast brown fox, in order to jump, leaps over the idle dog; it is a large dog.",
                "The rapid brown fox, in order to jump, jumps over the idle dog; it is a big dog.",
            ],
        ),
        (
            "insert",
            0.1,
            [
                "The quick brown fox, in order to jump, leaps over the lazy large dog; it is a big dog.",
                "The quick brown fox, in order to jump, leaps over the lazy dog; large it is a big dog.",
            ],
        ),
        (
            "swap",
            0.1,
            [
                "The quick brown dog, in order to jump, leaps over the lazy fox; it is a big dog.",
                "leaps quick brown fox, in order to jump, The over the lazy dog; it is a big dog.",
            ],
        ),
        (
            "delete",
            0.2,
            [
                "The quick brown fox, order to jump, leaps lazy dog; it is big dog.",
                "The quick brown fox, in to leaps over the lazy it a big dog.",
            ],
        ),
        (
            "case",
            0.3,
            [
                "tHE quick BROWN fox, in order to jump, leaps over the lazy DOG; it is a big dog.",
                "The Quick brown FOX, in order to jump, leaps Over the lazy dog; It is A big dog.",
            ],
        ),
        (
            "typo",
            0.1,
            [
                "Th equick brown fox, in order to jump, leaps over tthe laz dog; it is a big dog.",
                "Tue quick brown ofox, in order o jmup, lea sover the lzay dog; it is a big og.",
            ],
        ),
    ],
)
def test_golden(tables, name, rate, expected):
    """Each edit by itself, word for word: these texts may never change for this version of the step."""
    assert augmented([TEXT, TEXT], {**OFF, **tables, f"{name}_rate": rate}) == expected


def test_all_edits_golden(tables):
    """All of them in turn, at EDA's rate."""
    options = {**tables, "edits": "all", "template_rate": 0.5, "case_rate": 0.1, "typo_rate": 0.02}
    assert augmented([TEXT], options) == ["The rapid dog fox, jump, leaps over the lazy large bbrown; i is a big dog."]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=5),
    st.sampled_from(["one", "all"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rate_zero_leaves_the_text(tables, texts, edits):
    """With every rate 0, or a share of 0, texts come out as they went in, and nothing is counted."""
    for options in ({**OFF, **tables}, {"share": 0.0, **tables}):
        ran = run_steps(table_of(texts), [bind("augment_text", {**options, "edits": edits})], KEYS)
        assert ran.table["text"].to_pylist() == texts
        assert not any(ran.counters.values())


@given(
    st.lists(st.text(st.sampled_from("aA b\tqu,ß中.\n'é"), max_size=60), min_size=1, max_size=8),
    st.integers(0, 2**64),
    st.integers(0, 5),
    st.sampled_from(["one", "all"]),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batching_and_order_change_nothing(tables, texts, seed, epoch, edits, draw):
    """Rows in any order, in batches of any size, through a pickled step, come out as they came out of one table."""
    keys = Keys(seed=seed, epoch=epoch)
    options = {**tables, "edits": edits, "share": 0.8, "template_rate": 0.5, "case_rate": 0.2, "typo_rate": 0.1}
    step = bind("augment_text", options)
    table = table_of(texts)
    offline = {row["row_id"]: row for row in run_steps(table, [step], keys).table.to_pylist()}
    order = list(range(len(texts)))
    draw.shuffle(order)
    size = draw.randint(1, 4)
    transform = pickle.loads(pickle.dumps(steps_transform([step], keys)))
    batches = [table.take(order[at : at + size]) for at in range(0, len(order), size)]
    online = [row for batch in batches for row in transform(batch).to_pylist()]
    assert [row["row_id"] for row in online] == [f"doc:{i}" for i in order]
    assert all(offline[row["row_id"]] == row for row in online)


def test_seed_epoch_and_row_matter(tables):
    """Another seed, epoch or row id gives another text; the same give the same."""
    options = {**tables, "edits": "all"}
    text = " ".join(f"word{i}" for i in range(60))
    base = augmented([text, text], options)
    assert base[0] != base[1]
    assert augmented([text, text], options) == base
    assert augmented([text, text], options, Keys(seed=5, epoch=2)) != base
    assert augmented([text, text], options, Keys(seed=6, epoch=1)) != base


def test_edits_draw_by_themselves(tables):
    """Switching an edit on that does nothing to a text does not change what the others do."""
    text = "none of these has another word for it here"
    alone = augmented([text] * 5, {**OFF, "edits": "all", "swap_rate": 0.3})
    beside = augmented([text] * 5, {**OFF, **tables, "edits": "all", "swap_rate": 0.3, "synonym_rate": 0.9})
    assert beside == alone


def test_one_edit_each(tables):
    """By default a row is given one edit, and over many rows each of EDA's four has about a quarter."""
    ran = run_steps(table_of([TEXT] * 2000), [bind("augment_text", tables)], KEYS)
    counts = ran.signals.select(SIGNALS).to_pydict()
    given = [sum(counts[name][row] > 0 for name in SIGNALS) for row in range(2000)]
    assert max(given) == 1
    rows = {name: sum(each > 0 for each in counts[f"augment_text.{name}"]) for name in EDITS}
    assert rows["template"] == rows["case"] == rows["typo"] == 0
    # 500 ± 5 standard deviations; of 17 words none is deleted with probability 0.9^17 = 17%.
    assert all(400 < rows[name] < 600 for name in ("synonym", "insert", "swap"))
    assert 320 < rows["delete"] < 510
    assert ran.counters == {name: sum(counts[name]) for name in SIGNALS}


def test_share():
    """About so many rows are edited, and those of a lower share are among those of a higher."""
    texts = ["alpha beta gamma delta"] * 1000
    options = {**OFF, "swap_rate": 0.1}
    half = [a != b for a, b in zip(augmented(texts, {**options, "share": 0.5}), texts, strict=True)]
    most = [a != b for a, b in zip(augmented(texts, {**options, "share": 0.9}), texts, strict=True)]
    assert 420 < sum(half) < 580
    assert all(b or not a for a, b in zip(half, most, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_offline_is_online(tables, tmp_path, workers):
    """Preprocessed with the step, or preprocessed without and edited by a loader with threads: the same texts."""
    draw = random.Random(3)
    words = [
        "quick",
        "lazy",
        "big",
        "leaps",
        "dog",
        "fox",
        "it",
        "is",
        "a",
        "cat",
        "in",
        "order",
        "to",
        "see",
        "and",
        "Paris,",
        "42",
    ]
    (tmp_path / "in").mkdir()
    for part in range(3):
        lines = [json.dumps({"text": " ".join(draw.choices(words, k=30))}) + "\n" for _ in range(40)]
        (tmp_path / "in" / f"{part}.jsonl").write_text("".join(lines))
    options = {**tables, "edits": "all", "template_rate": 0.5, "case_rate": 0.1, "typo_rate": 0.02}

    def dataset(name, *steps):
        recipe = {"name": "t", "seed": 9, "steps": ["decode", *steps], "output": {"row_group_rows": 16}}
        datapipe.preprocess(tmp_path / "in", tmp_path / name, recipe=recipe, workers=workers if steps else 0)
        return datapipe.open_dataset(str(tmp_path / name))

    plain, edited = dataset("plain"), dataset("edited", {"augment_text": options})
    transform = steps_transform([bind("augment_text", options)])

    def online(epoch, batch_size, threads):
        loader = datapipe.DataLoader(
            plain, batch_size, seed=9, tail="partial", transform=transform, collate="arrow", num_threads=threads
        )
        loader.set_epoch(epoch)
        return {row["row_id"]: row["text"] for batch in loader for row in batch.to_pylist()}

    def stored(data):
        loader = datapipe.DataLoader(data, 50, tail="partial", collate="arrow")
        return {row["row_id"]: row["text"] for batch in loader for row in batch.to_pylist()}

    offline = stored(edited)
    assert len(offline) == 120
    assert online(0, 7, 2) == offline
    assert online(0, 64, 1) == offline
    later = online(1, 32, 2)
    before = stored(plain)
    table = pa.table({"row_id": list(before), "text": pa.array(list(before.values()), pa.large_string())})
    again = run_steps(table, [bind("augment_text", options)], Keys(seed=9, epoch=1)).table
    assert later == dict(zip(again["row_id"].to_pylist(), again["text"].to_pylist(), strict=True))
    assert sum(later[row] != offline[row] for row in offline) > 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"swap_rate": 1.5}, "swap_rate = 1.5"),
        ({"share": -0.1}, "share"),
        ({"template_rate": 0.5}, "no templates"),
        ({"edits": "some"}, "edits"),
        ({"swap": 0.1}, "did you mean 'swap_rate'"),
    ],
)
def test_bad_options(options, message):
    """Options out of range, unknown or without their table say what is wrong."""
    with pytest.raises(ConfigError, match=message):
        bind("augment_text", options)


def test_default_rates_are_edas():
    """Wei and Zou's α for their four edits; the others are off."""
    options = AugmentTextOptions()
    assert {name: options.rate(name) for name in EDITS if options.rate(name)} == dict.fromkeys(
        ("synonym", "insert", "swap", "delete"), 0.1
    )
