"""What there is to write a recipe with can be read from the command line."""

from datapipe.preprocess import load_recipe, shipped_recipes
from datapipe.steps import REGISTRY


def test_a_printed_recipe_is_the_recipe(datapipe, tmp_path):
    """Saved to a file and named by it, each shipped recipe does what it does by its name."""
    for name in shipped_recipes():
        file = tmp_path / f"{name}.yaml"
        file.write_text(datapipe("recipe", name).out)
        assert load_recipe(file).fingerprint == load_recipe(name).fingerprint


def test_recipes_are_listed(datapipe):
    """With their steps."""
    ran = datapipe("recipe")
    assert all(name in ran.out for name in shipped_recipes())
    assert datapipe("recipe", "--json").json["recipes"] == list(shipped_recipes())


def test_an_unknown_recipe_or_step_is_wrong_usage(datapipe):
    """… and those there are, are named."""
    ran = datapipe("recipe", "no-such")
    assert ran.code == 2
    assert "text" in ran.err
    assert datapipe("steps", "unicod").code == 2
    assert "'unicode'" in datapipe("steps", "unicod").err


def test_every_step_can_be_looked_up(datapipe):
    """Name and summary in the list; options with their defaults and reasons of each."""
    ran = datapipe("steps")
    assert all(name in ran.out and spec.summary in ran.out for name, spec in REGISTRY.items())
    facts = datapipe("steps", "gopher_quality@whitespace", "--json").json
    assert {"name": "min_words", "type": "int", "default": 50} in facts["options"]
    assert "gopher_too_few_words" in facts["reasons"]
    assert "min_mean_word_length" in datapipe("steps", "gopher_quality@whitespace").out
