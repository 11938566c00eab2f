"""The registry: names, the nearest name, binding, and an import that stays light."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from datapipe.errors import ConfigError
from datapipe.steps import REGISTRY, bind, find_step
from datapipe.steps.unicode import UnicodeOptions


def test_names():
    """The steps of the text recipe, in its order; a name is its spec's."""
    recipe = [
        "decode",
        "html_to_text",
        "unicode",
        "gopher_quality@whitespace",
        "exact_duplicates",
        "vocabulary",
        "tokenize",
        "pack",
    ]
    assert [name for name in REGISTRY if name in recipe] == recipe
    assert all(spec.name == name for name, spec in REGISTRY.items())


def test_kinds():
    """Which steps need all of the corpus, and which give other rows."""
    assert {name: REGISTRY[name].kind for name in ("decode", "exact_duplicates", "vocabulary", "pack")} == {
        "decode": "map",
        "exact_duplicates": "global",
        "vocabulary": "global",
        "pack": "reshape",
    }


def test_read_only():
    """Nobody changes the registry under a running plan."""
    with pytest.raises(TypeError):
        REGISTRY["decode"] = None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tokenise", "tokenize"),
        ("Unicode", "unicode"),
        ("gopher_quality", "gopher_quality@datatrove"),
        ("gopher", "gopher_quality@whitespace"),
        ("exact_dupes", "exact_duplicates"),
        ("html2text", "html_to_text"),
    ],
)
def test_unknown_step_names_the_nearest(name, near):
    with pytest.raises(ConfigError) as caught:
        find_step(name)
    assert f"did you mean {near!r}?" in str(caught.value)
    assert "decode" in caught.value.expected


@pytest.mark.parametrize("name", ["", "zzzzzz", None, 3, ["decode"]])
def test_no_such_step(name):
    """Nonsense is refused with the list of what there is."""
    with pytest.raises(ConfigError, match="there is no step"):
        find_step(name)


def test_bind_takes_values_or_options():
    """Plain values, an options instance or nothing."""
    assert bind("unicode", {"strip": False}).options == UnicodeOptions(strip=False)
    assert bind("unicode", UnicodeOptions(strip=False)).options == UnicodeOptions(strip=False)
    assert bind("unicode").options == bind("unicode", {}).options == UnicodeOptions()
    assert bind("unicode").name == "unicode"


def test_bound_steps_pickle_by_name():
    """A worker builds the step from its own registry."""
    step = pickle.loads(pickle.dumps(bind("unicode", {"zero_width": True})))
    assert step.options == UnicodeOptions(zero_width=True)
    assert step.spec is REGISTRY["unicode"]


def test_import_is_light():
    """Looking up a step, or checking a recipe's options, imports none of the heavy libraries."""
    code = (
        "import sys; import datapipe.steps as s; s.bind('decode'); s.bind('pack', {'seq_len': 8});"
        "heavy = {'pyarrow', 'polars', 'numpy', 'tokenizers', 'resiliparse', 'torch', 'dask', 'distributed'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
