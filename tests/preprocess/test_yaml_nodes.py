"""YAML from strangers: plain values with their lines, or a clear refusal."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import RecipeError
from datapipe.preprocess.yaml_nodes import MAX_BYTES, parse_value, parse_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(st.characters(codec="ascii"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_values_come_back(value):
    """What YAML's own writer writes of plain values is read as those values."""
    assert parse_yaml(yaml.safe_dump(value), where="x").plain() == value


def test_lines_are_those_of_the_file():
    """Each node knows the line it begins on."""
    root = parse_yaml("a: 1\nb:\n  - x\n  - y: 2\n", where="x")
    assert root.value["a"].line == 1
    assert [node.line for node in root.value["b"].value] == [3, 4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: !!python/object/apply:os.system [ls]", "x:1: 'python/object/apply:os.system'"),
        ("a: 2024-01-01", "x:1: 'timestamp'"),
        ("a: &n 1\nb: *n", "x:2?|alias"),
        ("a: 1\na: 2", "x:2: 'a' is given twice"),
        ("1: a", "x:1: the key 1"),
        ("a: [1", "x:1: not YAML"),
        ("<<: {a: 1}", "merge"),
        ("", "empty"),
        ("a: '\x00'", "not YAML"),
        ("- " * 40 + "x", "nested too deeply"),
        ("[" * 3000, "nested too deeply"),
        ("a" * (MAX_BYTES + 1), "at most"),
        ("a: 1\n---\nb: 2", "not YAML"),
    ],
)
def test_what_is_refused(text, says):
    """Tags, aliases, doubles, depth and damage are refused with the file and the line."""
    with pytest.raises(RecipeError, match=says):
        parse_yaml(text, where="x")


def test_a_billion_laughs_are_not_told():
    """Aliases that would multiply are refused before they do."""
    levels = "\n".join(f"l{i}: &l{i} [*l{i - 1}, *l{i - 1}]" if i else "l0: &l0 [x]" for i in range(30))
    with pytest.raises(RecipeError, match="alias"):
        parse_yaml(levels, where="x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("[a, 1]", ["a", 1]),
        ("", ""),
        ("plain text", "plain text"),
    ],
)
def test_values_of_the_command_line(text, value):
    """`--set x=…` reads values as a recipe file does."""
    assert parse_value(text) == value
