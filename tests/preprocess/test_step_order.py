"""A recipe that could not run is refused with what would help."""

import pytest

from datapipe.errors import ConfigError
from datapipe.preprocess.recipe_file import load_recipe
from datapipe.preprocess.step_order import check_order


def check(*steps, columns="*"):
    check_order(load_recipe({"name": "r", "input": {"text_column": None, "columns": [columns]}, "steps": list(steps)}))


def test_a_column_that_the_schema_does_not_name():
    """Reading it would not help, since the schema leaves it out: the schema is what to correct."""
    schema = {"schema": {"columns": {"age": "int32", "far": "float32"}}}
    with pytest.raises(ConfigError, match="normalise needs the column 'fare'") as caught:
        check(schema, {"normalise": {"columns": {"fare": {}}}})
    assert caught.value.fix == "name it in schema.columns: those left are age, far; did you mean 'far'?"


def test_a_column_that_is_not_read():
    """Without a schema, it is the input that lacks it."""
    with pytest.raises(ConfigError) as caught:
        check({"normalise": {"columns": {"fare": {}}}}, columns="age")
    assert caught.value.fix == "read it: --set 'input.columns=[fare]'"
