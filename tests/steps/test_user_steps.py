"""A user's own step is a step like any other, and an edit of its file is another version of it."""

from __future__ import annotations

import pickle
import textwrap

import pyarrow as pa
import pytest

from datapipe.errors import ConfigError, StepError
from datapipe.steps import Keys, bind, find_step, options_from, run_steps

SOURCE = '''
import pyarrow.compute as pc
from datapipe.steps import declares

def long_enough(table, *, min_chars: int = 3):
    """Rows with enough characters stay.

    More about it.
    """
    return pc.greater_equal(pc.utf8_length(table["text"]), min_chars)

@declares(reasons=("shouted",), needs=("text",), gives=("loud",))
def loud(table, keys):
    return table.append_column("loud", pc.equal(table["text"], pc.utf8_upper(table["text"])))

def as_list(table, *, answers: tuple[bool, ...] = (True, False, True)):
    return list(answers)

def seeded(table, keys):
    return [keys.seed > 0] * table.num_rows

def number(table):
    return 7

def lengths(table):
    return table.set_column(1, "text", pc.utf8_length(table["text"]))

@declares(gives=("text",))
def declared_lengths(table):
    return lengths(table)

def larger(table):
    return table.set_column(1, "text", table["text"].cast("large_string"))

def needs_more(table, *, size: int):
    return table

def none():
    return None

CONSTANT = 3
'''


@pytest.fixture
def file(tmp_path):
    """A file of a user's steps."""
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(SOURCE))
    return path


@pytest.fixture
def table():
    """Three rows."""
    return pa.table({"row_id": ["a", "b", "c"], "text": ["long", "no", "LOUD"]})


def test_a_boolean_array_says_which_rows_stay(file, table):
    """The others are dropped for the function's name; keyword-only parameters are its options."""
    ran = run_steps(table, [bind(f"{file}:long_enough")], Keys())
    assert ran.table["row_id"].to_pylist() == ["a", "c"]
    assert ran.marked.select(["row_id", "step", "kind", "reason"]).to_pylist() == [
        {"row_id": "b", "step": "mine.py:long_enough", "kind": "drop", "reason": "long_enough"}
    ]
    assert run_steps(table, [bind(f"{file}:long_enough", {"min_chars": 1})], Keys()).table.num_rows == 3
    assert run_steps(table, [bind(f"{file}:as_list")], Keys()).table["row_id"].to_pylist() == ["a", "c"]
    assert run_steps(table, [bind(f"{file}:seeded")], Keys(seed=0)).table.num_rows == 0
    assert run_steps(table, [bind(f"{file}:seeded")], Keys(seed=1)).table.num_rows == 3


def test_what_it_declares_is_its_spec(file, table):
    """Reasons, needs and gives; the summary is the first line of its docstring."""
    spec = find_step("mine.py:loud", folder=file.parent)
    assert (spec.name, spec.reasons, spec.needs, spec.gives) == ("mine.py:loud", ("shouted",), ("text",), ("loud",))
    assert find_step(f"{file}:long_enough").summary == "Rows with enough characters stay."
    assert run_steps(table, [bind(f"{file}:loud")], Keys()).table["loud"].to_pylist() == [False, False, True]


def test_it_survives_a_pickle_and_a_move(file, table, tmp_path):
    """A worker builds it from a copy of the file that lies elsewhere, under another name."""
    copy = tmp_path / "elsewhere.resource"
    copy.write_bytes(file.read_bytes())
    there = bind("mine.py:long_enough", {"source": str(copy), "min_chars": 1})
    file.unlink()
    assert run_steps(table, [there], Keys()).table.num_rows == 3
    assert pickle.loads(pickle.dumps(there)).options == there.options


def test_an_edit_is_seen(file, table):
    """A file that changed in one process is loaded anew."""
    step = f"{file}:long_enough"
    assert run_steps(table, [bind(step)], Keys()).table.num_rows == 2
    file.write_text(SOURCE.replace("greater_equal", "less"))
    assert run_steps(table, [bind(step)], Keys()).table["row_id"].to_pylist() == ["b"]


def test_a_module_is_named_by_its_name():
    """An installed function: its first parameter is the table."""
    spec = find_step("datapipe.steps.unicode:build")
    assert spec.name == "datapipe.steps.unicode:build"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.py:x", "there is no file"),
        ("mine.py:absent", "has no function 'absent'.*\n.*one of .*loud"),
        ("mine.py:CONSTANT", "has no function"),
        ("mine.py:needs_more", "needs_more has a parameter size.*\n.*keyword-only, each with a default"),
        ("mine.py:none", "takes 0 tables"),
        ("no.such.package:x", "there is no module"),
        ("broken.py:x", "broken.py cannot be loaded: SyntaxError"),
    ],
)
def test_what_is_no_step_is_refused(file, name, says):
    """… with what is there instead."""
    (file.parent / "broken.py").write_text("def (")
    with pytest.raises(ConfigError, match=says):
        find_step(name, folder=file.parent)


@pytest.mark.parametrize(("name", "options"), [("number", {}), ("as_list", {"answers": [True]})])
def test_a_strange_result_is_an_error(file, table, name, options):
    """Neither a table nor a boolean for each row."""
    with pytest.raises(StepError, match="returned"):
        run_steps(table, [bind(f"{file}:{name}", options)], Keys())


def test_options_are_checked(file):
    """By the types that the function annotates."""
    spec = find_step(f"{file}:long_enough")
    with pytest.raises(ConfigError, match="min_chars = 'x'"):
        options_from(spec, {"min_chars": "x"})
    with pytest.raises(ConfigError, match=r"no option 'min_char'.*\n.*one of (?!.*source).*\n.*min_chars"):
        options_from(spec, {"min_char": 1})


def test_a_column_of_another_type_is_declared(file, table):
    """Otherwise it is an error that says so; one kind of string is as good as another."""
    with pytest.raises(StepError, match="mine.py:lengths returned 'text' as int32; it was string"):
        run_steps(table, [bind(f"{file}:lengths")], Keys(seed=1))
    assert run_steps(table, [bind(f"{file}:declared_lengths")], Keys(seed=1)).table["text"].to_pylist() == [4, 2, 4]
    assert run_steps(table, [bind(f"{file}:larger")], Keys(seed=1)).table["text"].to_pylist() == ["long", "no", "LOUD"]
