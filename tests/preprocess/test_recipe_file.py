"""Recipes from files, mappings and overrides: what is right is read, what is wrong is named with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ConfigError, RecipeError
from datapipe.preprocess.recipe_file import load_recipe, parse_overrides, shipped_recipes


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_every_shipped_recipe_loads_and_can_be_planned():
    """What comes with the package works."""
    from datapipe.preprocess.plan import build_plan

    assert "text" in shipped_recipes()
    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert build_plan(recipe, []).stages


@pytest.mark.parametrize(
    ("text", "says", "fix"),
    [
        ("steps: [decod]", "mine.yaml:1: there is no step 'decod'", "did you mean 'decode'"),
        ("steps:\n  - decode\n  - gopher", "mine.yaml:3: there is no step 'gopher'", "gopher_quality@whitespace"),
        ("steps:\n  - decode\n  - pack:\n      seq_len: long", "mine.yaml:4: pack.seq_len = 'long'", "whole number"),
        ("steps:\n  - decode\n  - pack:\n      seqlen: 4", "mine.yaml:4: .*no option 'seqlen'", "seq_len"),
        ("steps:\n  - pack:\n      seq_len: true", "mine.yaml:3: pack.seq_len = True", "whole number"),
        ("steps:\n  - pack:\n      seq_len: 0", "mine.yaml:3: pack.seq_len = 0", "change"),
        ("step: [decode]", "mine.yaml:1: 'step'", "did you mean 'steps'"),
        ("steps: 7", "mine.yaml:1: no steps", "see the shipped recipe"),
        ("name: x", "mine.yaml:1: no steps", "see"),
        ("steps:\n  - 3", "mine.yaml:2: 3", None),
        ("steps:\n  - {decode: {}, unicode: {}}", "mine.yaml:2: ", None),
        ("steps:\n  - decode: fast", "mine.yaml:2: decode: 'fast'", None),
        ("- decode", "mine.yaml:1: not a mapping", None),
        ("steps: [decode]\noutput:\n  formt: x", "mine.yaml:3: section 'output' has no option 'formt'", "format"),
        ("steps: [decode]\noutput:\n  compression: rar", "mine.yaml:3: output.compression", None),
        ("steps: [decode]\ninput: [1]", "mine.yaml:2: input", None),
        ("steps: [decode]\nseed: -1", "mine.yaml:2: seed = -1", None),
        ("steps: [decode]\nseed: yes", "mine.yaml:2: seed = True", None),
        ("steps: [decode]\nname: [x]", "mine.yaml:2: name", None),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, text, says, fix):
    """Unknown steps, unknown options, wrong types and values: file, line, nearest name."""
    with pytest.raises(RecipeError, match=says) as caught:
        load_recipe(write(tmp_path, text))
    if fix:
        assert fix in str(caught.value)


def test_files_that_are_no_recipe(tmp_path):
    """A missing file, a folder, and bytes that are no text are refused, with the shipped names."""
    with pytest.raises(RecipeError, match="there is no recipe 'txet'.*\n.*text.*\n.*did you mean 'text'"):
        load_recipe("txet")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00steps")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(tmp_path / "b.yaml")


def test_a_tokenizer_is_looked_for_beside_the_recipe(tmp_path):
    """A relative path in a recipe file is relative to the file, and only its name gets into the manifest."""
    recipe = load_recipe(write(tmp_path, "steps: [decode, {tokenize: {tokenizer: t.json}}]"))
    assert recipe.steps[1].options.tokenizer == str(tmp_path / "t.json")
    assert recipe.as_dict()["steps"][1]["options"]["tokenizer"] == "t.json"


def test_overrides_reach_steps_sections_and_the_seed():
    """A step may be called without its variant; values keep their types."""
    overrides = parse_overrides(
        ["gopher_quality.min_words=5", "output.row_group_rows=8", "input.columns=[lang]", "seed=7", "pack.seq_len=32"]
    )
    recipe = load_recipe("text", overrides)
    assert recipe.steps[recipe.find("gopher_quality")[0]].options.min_words == 5
    assert recipe.output.row_group_rows == 8
    assert recipe.input.columns == ("lang",)
    assert recipe.seed == 7


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"tokenise.end_of_text": None}, "no step is called 'tokenise'"),
        ({"pack.seqlen": 3}, "no option 'seqlen'"),
        ({"pack.seq_len": "3"}, "pack.seq_len = '3'"),
        ({"pack": 3}, "override 'pack'"),
        ({"output.fromat": 3}, "no option 'fromat'"),
        ({"seed": "x"}, "seed = 'x'"),
    ],
)
def test_wrong_overrides(overrides, says):
    """An override that names nothing, or has a wrong value, is refused."""
    with pytest.raises(ConfigError, match=says):
        load_recipe("text", overrides)


@pytest.mark.parametrize("item", ["novalue", "=3", "a.b=[1", "a.b=!!python/name:os.system"])
def test_wrong_set_arguments(item):
    """`--set` needs a name, an equals sign and a plain value."""
    with pytest.raises(ConfigError, match="--set"):
        parse_overrides([item])
    with pytest.raises(ConfigError, match="twice"):
        parse_overrides(["a.b=1", "a.b=2"])


def test_an_ambiguous_step_is_not_guessed():
    """Of two steps of one name, an override cannot mean one."""
    with pytest.raises(ConfigError, match="2 steps are called 'unicode'"):
        load_recipe({"steps": ["decode", "unicode", "unicode"]}, {"unicode.strip": False})


@given(st.permutations(["name", "seed", "input", "steps", "output"]))
def test_the_fingerprint_is_of_what_is_asked_for(order):
    """Neither the order of keys, nor a default written out, nor file or mapping changes a fingerprint; a value does."""
    whole = {
        "name": "x",
        "seed": 0,
        "input": {"text_column": "text"},
        "steps": ["decode", {"unicode": {"strip": True}}],
        "output": {},
    }
    fingerprint = load_recipe({key: whole[key] for key in order}).fingerprint
    assert fingerprint == load_recipe({"name": "x", "steps": ["decode", "unicode"]}).fingerprint
    assert fingerprint != load_recipe({"name": "x", "steps": ["decode", {"unicode": {"strip": False}}]}).fingerprint


def test_values_that_belong_together_are_checked_together():
    """In whatever order they are given: the rates of labels, and the column of these labels."""
    rates = {"split.rates": {"rare": {"test": 1}}, "split.label": "kind", "split.parts": {"train": 1, "test": 1}}
    (step,) = [each for each in load_recipe("table", rates).steps if each.name == "split"]
    assert step.options.label == "kind"
    with pytest.raises(ConfigError, match="rates for 1 labels"):
        load_recipe("table", {key: value for key, value in rates.items() if key != "split.label"})
