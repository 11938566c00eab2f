"""Plans: stages cut at global steps, the same on every machine, refused where the order cannot work."""

import json

import pytest

from datapipe.corpus.piece import Piece, SourceFile, Split
from datapipe.errors import ConfigError
from datapipe.preprocess.plan import LARGEST_SPLIT, MIN_SPLITS, SMALLEST_SPLIT, build_plan, split_size
from datapipe.preprocess.recipe_file import load_recipe


def splits(n=3, root="/somewhere", size=100):
    files = [
        SourceFile(root=root, path=f"{i}.txt", name=f"in/{i}.txt", format="text", size=size, etag="e") for i in range(n)
    ]
    return [Split(index=i, pieces=(Piece(file=file),), bytes=size) for i, file in enumerate(files)]


def shape(recipe, **overrides):
    plan = build_plan(load_recipe({"steps": recipe}, overrides), splits())
    return [(s.name, s.kind, s.source, s.drops, s.writes or (s.reads,)) for s in plan.stages]


def test_the_text_recipe_is_five_stages():
    """Map → duplicates → sample → vocabulary → map, each reading what an earlier one wrote."""
    plan = build_plan(load_recipe("text"), splits())
    assert [(s.name, s.kind, s.tasks, s.source, s.drops, s.writes or (s.reads,)) for s in plan.stages] == [
        ("clean", "map", 3, None, (), ("rows", "hashes")),
        ("duplicates", "duplicates", 1, 0, (), ("hashes_runs",)),
        ("sample", "map", 3, 0, (1,), ("sample",)),
        ("vocabulary", "vocabulary", 1, 2, (), ("tokenizer",)),
        ("write", "map", 3, 0, (1,), ("shard",)),
    ]


def test_without_global_steps_there_is_one_stage():
    """Nothing is written twice where nothing needs the whole corpus."""
    assert shape(["decode", "unicode"]) == [("write", "map", None, (), ("shard",))]


def test_steps_between_global_ones_write_their_rows():
    """A step after duplicates that may change rows makes a stage that writes them, duplicates left out for good."""
    assert shape(["decode", "exact_duplicates", "unicode", "exact_duplicates"]) == [
        ("clean", "map", None, (), ("rows", "hashes")),
        ("duplicates", "duplicates", 0, (), ("hashes_runs",)),
        ("clean #2", "map", 0, (1,), ("rows", "hashes")),
        ("duplicates #2", "duplicates", 2, (), ("hashes_runs",)),
        ("write", "map", 2, (3,), ("shard",)),
    ]


def test_ids_are_compared_before_texts():
    """With an id column, rows whose id was seen are out before a text's first copy is chosen, and before a sample."""
    assert shape(["decode", "exact_duplicates"], **{"input.id_column": "id"}) == [
        ("clean", "map", None, (), ("rows", "ids")),
        ("duplicate ids", "duplicates", 0, (), ("ids_runs",)),
        ("hash", "map", 0, (1,), ("hashes",)),
        ("duplicates", "duplicates", 2, (), ("hashes_runs",)),
        ("write", "map", 0, (1, 3), ("shard",)),
    ]
    sampled = shape(["decode", "vocabulary", "tokenize", "pack"], **{"input.id_column": "id"})
    assert [(name, drops) for name, _, _, drops, _ in sampled] == [
        ("clean", ()), ("duplicate ids", ()), ("sample", (1,)), ("vocabulary", ()), ("write", (1,)),
    ]  # fmt: skip
    assert shape(["decode"], **{"input.id_column": "id"})[-1] == ("write", "map", 0, (1,), ("shard",))


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (["unicode"], "unicode needs the column 'text'.*\n.*\n.*add the step decode"),
        (["unicode", "decode"], "unicode needs the column 'text'.*\n.*\n.*put decode before unicode"),
        (["decode", "pack"], "pack needs the column 'tokens'"),
        (["decode", "tokenize"], "tokenize has no tokenizer"),
        (["decode", "tokenize", "vocabulary"], "tokenize has no tokenizer"),
        (["decode", "vocabulary", {"tokenize": {"tokenizer": "/x/t.json"}}], "'t.json', and a step vocabulary"),
        (["decode", "vocabulary", "vocabulary", "tokenize"], "vocabulary comes twice"),
        (["decode", "vocabulary", {"tokenize": {"keep_text": True}}, "tokenize"], "tokenize comes twice"),
        (["decode", "vocabulary", "tokenize", "pack", "unicode"], "unicode after pack"),
        (["decode", "vocabulary", "tokenize", "unicode"], "unicode needs the column 'text'"),
        (["decode", "vocabulary", "tokenize", "pack", "pack"], "pack after pack"),
    ],
)
def test_orders_that_cannot_work_are_refused(steps, says):
    """… with the step to move, before a byte is read."""
    with pytest.raises(ConfigError, match=says):
        shape(steps)


@pytest.mark.parametrize("overrides", [{"output.columns": ["text", "nothing"]}, {"output.columns": []}])
def test_output_columns_must_be_there(overrides):
    """A column that no step leaves cannot be written."""
    with pytest.raises(ConfigError, match=r"output\.columns"):
        shape(["decode"], **overrides)


@pytest.mark.parametrize("name", ["text", "row_id", "__position", "drop_reason"])
def test_further_columns_may_not_take_ours(name):
    """A carried column cannot stand in for one that stages rely on."""
    with pytest.raises(ConfigError, match=r"input\.columns"):
        shape(["decode"], **{"input.columns": [name]})


def test_a_plan_is_the_same_wherever_the_input_lies():
    """No path, time or host is in a plan, printed or as data."""
    here = build_plan(load_recipe("text"), splits(root="/home/one"))
    there = build_plan(load_recipe("text"), splits(root="/mnt/two"))
    assert str(here) == str(there)
    assert here.as_dict() == there.as_dict()
    assert json.loads(json.dumps(here.as_dict())) == here.as_dict()
    assert "/home" not in str(here) + json.dumps(here.as_dict())


def test_definitions_differ_where_work_does():
    """A stage's definition changes with its own options and the seed, and with no other stage's."""

    def definitions(**overrides):
        plan = build_plan(load_recipe("text", overrides), splits())
        return [plan.definition(stage) for stage in plan.stages]

    base = definitions()
    last = definitions(**{"pack.seq_len": 16})
    assert last[:4] == base[:4]
    assert last[4] != base[4]
    first = definitions(**{"unicode.strip": False})
    assert first[0] != base[0]
    assert first[1:] == base[1:]
    assert all(a != b for a, b in zip(definitions(seed=1), base, strict=True))
    assert definitions(**{"output.split_bytes": 5}) == base


def test_a_tokenizer_counts_by_content_not_by_path():
    """Two paths of one tokenizer are one definition; two tokenizers at one path are two."""

    def definition(path, checksum):
        recipe = load_recipe({"steps": ["decode", {"tokenize": {"tokenizer": path}}]})
        plan = build_plan(recipe, splits(), resources={path: checksum})
        return plan.definition(plan.stages[-1])

    assert definition("/a/t.json", "1") == definition("/b/u.json", "1")
    assert definition("/a/t.json", "1") != definition("/a/t.json", "2")


@pytest.mark.parametrize("total", [0, 1, 10**6, 25 * 10**6, 10**9, 10**13])
def test_split_sizes_are_powers_of_two_in_bounds(total):
    """A few more files seldom change the split size, so they seldom change a split."""
    size = split_size(total)
    assert size & (size - 1) == 0
    assert SMALLEST_SPLIT <= size <= LARGEST_SPLIT
    assert size == SMALLEST_SPLIT or total >= size * MIN_SPLITS


def test_buckets_follow_the_input_alone():
    """As many buckets as the bytes need, a power of two, 256 at most."""
    assert build_plan(load_recipe("text"), splits(8), bucket_bytes=100).buckets == 8
    assert build_plan(load_recipe("text"), splits(9), bucket_bytes=100).buckets == 16
    assert build_plan(load_recipe("text"), splits(900), bucket_bytes=1).buckets == 256
