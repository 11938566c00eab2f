"""Every step in the registry keeps the step contract, whatever it does."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import pickle
import random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import DROP, QUARANTINE, REGISTRY, Keys, bind, options_from, plain_options, run_steps
from datapipe.steps.step import LABELS

KEYS = Keys(seed=3, epoch=1)
SMALL = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROW_BY_ROW = [name for name, spec in REGISTRY.items() if spec.kind != "reshape"]

# Mostly what text is made of, with a fair share of what breaks things.
TEXTS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        st.text(" \n\t\r\0\x85e\u0301\ufeff#.…•-<>&/ap", max_size=60),
        st.sampled_from(["The cat sat with the dog and that was the end of it, to be sure. " * 9, "<p>x</p>"]),
    ),
    max_size=12,
)


class TestStepContract:
    """Parametrised over the registry."""

    def test_pure(self, step_name, bound, input_of, awkward):
        """The same table twice gives equal output, and the input is as it was."""
        table = input_of(step_name, awkward)
        before = pa.table({name: pa.array(table[name].to_pylist(), table.schema.field(name).type)
                           for name in table.column_names})  # fmt: skip
        step = bound(step_name)
        first = step(table, KEYS)
        assert step(table, KEYS).equals(first)
        assert bound(step_name)(table, KEYS).equals(first), "another instance gives the same"
        assert table.equals(before)

    def test_output_is_valid_arrow(self, step_name, bound, input_of, awkward):
        """Buffers, offsets and UTF-8 of the output hold up to Arrow's full check."""
        bound(step_name)(input_of(step_name, awkward), KEYS).validate(full=True)

    def test_empty_table(self, step_name, bound, input_of):
        """No rows in, no rows out, and the schema is that of a full table."""
        some = run_steps(input_of(step_name, ["text"]), [bound(step_name)], KEYS).table
        for empty in (input_of(step_name, []), input_of(step_name, ["text"]).slice(0, 0)):
            none = run_steps(empty, [bound(step_name)], KEYS).table
            assert none.num_rows == 0
            assert none.schema == some.schema
        zero_chunks = input_of(step_name, ["text"]).schema.empty_table()
        assert bound(step_name)(zero_chunks, KEYS).num_rows == 0

    def test_one_row_each(self, step_name, bound, input_of, awkward):
        """Each awkward text alone passes through, and nothing of it is unaccounted for."""
        table = input_of(step_name, awkward)
        step = bound(step_name)
        for i in range(table.num_rows):
            ran = run_steps(table.slice(i, 1), [step], KEYS)
            if step.spec.kind != "reshape":
                assert ran.table.num_rows + ran.marked.num_rows == 1

    def test_null_text(self, step_name, bound, input_of):
        """A null where text or bytes should be is a row like any other: it comes out or is marked."""
        table = input_of(step_name, ["a", "b", "c"])
        for name in ("text", "raw", "media_type"):
            if name in table.column_names:
                place = table.schema.get_field_index(name)
                values = table[name].to_pylist()
                values[1] = None
                table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
        ran = run_steps(table, [bound(step_name)], KEYS)
        if REGISTRY[step_name].kind != "reshape":
            assert ran.table.num_rows + ran.marked.num_rows == 3

    @pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.large_string()])
    def test_any_string_type(self, step_name, bound, input_of, kind):
        """Text in Arrow's other string layouts gives the same rows."""
        table = input_of(step_name, ["one text", "another", ""])
        if "text" not in table.column_names:
            pytest.skip(f"{step_name} reads no text")
        other = table.set_column(table.schema.get_field_index("text"), "text", table["text"].cast(kind))
        expected = run_steps(table, [bound(step_name)], KEYS)
        got = run_steps(other, [bound(step_name)], KEYS)
        assert got.table.to_pydict() == expected.table.to_pydict()
        assert run_steps(other.slice(0, 0), [bound(step_name)], KEYS).table.schema == got.table.schema
        assert got.marked.equals(expected.marked)

    def test_keeps_rows_and_order(self, step_name, bound, input_of, awkward):
        """A step that is not reshape marks rows; it moves and removes none."""
        if REGISTRY[step_name].kind == "reshape":
            pytest.skip("reshape gives other rows")
        table = input_of(step_name, awkward)
        assert bound(step_name)(table, KEYS)["row_id"].equals(table["row_id"])

    def test_marks_declared_reasons_only(self, step_name, bound, input_of, awkward):
        """Every mark is among the spec's reasons, and a reason is a lower-case identifier."""
        spec = REGISTRY[step_name]
        assert all(reason.isidentifier() and reason == reason.lower() for reason in spec.reasons)
        result = bound(step_name)(input_of(step_name, awkward), KEYS)
        for name in (DROP, QUARANTINE):
            if name in result.column_names:
                assert result.schema.field(name).type == pa.string()
                assert set(result[name].to_pylist()) - {None} <= set(spec.reasons)

    def test_the_judge_says_what_the_step_marks(self, step_name, bound, input_of, awkward):
        """Stored signals, judged by whatever thresholds, give the drop marks of a step that has these.

        No threshold changes a signal: options that do are named in the spec's `measured_by`.
        """
        spec = REGISTRY[step_name]
        if spec.judge is None:
            pytest.skip(f"{step_name} has no judge")
        assert spec.signals
        assert set(spec.measured_by) <= {field.name for field in dataclasses.fields(spec.options)}
        table = input_of(step_name, awkward)
        first = bound(step_name)
        measured = first(table, KEYS)
        stored = measured.select([name for name in (*spec.signals, *LABELS) if name in measured.column_names])
        tried = [first]
        for field in dataclasses.fields(spec.options):
            value = getattr(first.options, field.name)
            if field.name in spec.measured_by or type(value) not in (int, float, bool):
                continue
            others = (not value,) if type(value) is bool else (type(value)(value / 2), type(value)(value * 2 + 1))
            for other in others:
                with contextlib.suppress(ConfigError):
                    tried.append(bind(step_name, dataclasses.replace(first.options, **{field.name: other})))
        for step in tried:
            result = step(table, KEYS)
            marks = (
                result[DROP] if DROP in result.column_names else pa.chunked_array([pa.nulls(len(table), pa.string())])
            )
            assert spec.judge(stored, step.options).to_pylist() == marks.to_pylist()
            assert result.select(list(spec.signals)).equals(measured.select(list(spec.signals)))
            assert spec.judge(stored.slice(0, 0), step.options).to_pylist() == []

    def test_needs_and_gives_are_true(self, step_name, bound, input_of):
        """With just the columns it needs (and a row id) the step runs, and what it gives is there."""
        spec = REGISTRY[step_name]
        table = input_of(step_name, ["some text", "more"])
        if spec.needs:
            table = table.select(list(dict.fromkeys(("row_id", *spec.needs))))
        result = bound(step_name)(table, KEYS)
        assert set(spec.gives) <= set(result.column_names)

    def test_options_default_and_round_trip(self, step_name):
        """Every option has a default; plain values and back is the identity."""
        spec = REGISTRY[step_name]
        options = spec.options()
        assert options_from(spec, plain_options(options)) == options
        assert options_from(spec, {}) == options
        assert spec.options.__dataclass_params__.frozen
        assert all(field.kw_only for field in dataclasses.fields(spec.options))
        hash(options)

    def test_spec(self, step_name):
        """Version and summary are there, and the documentation names every option."""
        spec = REGISTRY[step_name]
        assert type(spec.version) is int
        assert spec.version >= 1
        assert 10 <= len(spec.summary) <= 100
        for field in dataclasses.fields(spec.options):
            assert field.name in spec.options.__doc__, f"{field.name} is not documented"

    def test_picklable(self, step_name, bound, input_of, awkward):
        """A bound step crosses to another process and gives the same rows there."""
        step = bound(step_name)
        table = input_of(step_name, awkward[:12])
        step(table, KEYS)  # used, so that it holds whatever state it holds
        again = pickle.loads(pickle.dumps(step))
        assert again.options == step.options
        assert again(table, KEYS).equals(step(table, KEYS))

    def test_no_heavy_import_at_module_level(self, step_name):
        """The module of a step imports Arrow, polars and the like inside its functions only."""
        module = inspect.getmodule(REGISTRY[step_name].build)
        tree = ast.parse(inspect.getsource(module))
        heavy = {"pyarrow", "polars", "numpy", "tokenizers", "resiliparse", "xxhash", "torch"}
        for node in tree.body:
            if isinstance(node, ast.Import):
                assert not heavy & {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in heavy


@pytest.mark.parametrize("name", ROW_BY_ROW)
@given(texts=TEXTS, seed=st.integers(0, 2**32))
@SMALL
def test_split_invariance(name, bound, input_of, texts, seed):
    """Running over a table is running over its pieces, however it is cut: rows and marks are the same."""
    step = bound(name)
    table = input_of(name, texts)
    draw = random.Random(seed)
    cuts = sorted({0, len(texts), *(draw.randrange(len(texts) + 1) for _ in range(3))})
    whole = run_steps(table, [step], KEYS)
    parts = [run_steps(table.slice(a, b - a), [step], KEYS) for a, b in zip(cuts, cuts[1:], strict=False)]
    if parts:
        assert pa.concat_tables([part.table for part in parts]).equals(whole.table)
        marks = [mark for part in parts for mark in part.marked.to_pylist()]
        assert sorted(map(str, marks)) == sorted(map(str, whole.marked.to_pylist()))
    chunked = pa.concat_tables([table.slice(a, b - a) for a, b in zip(cuts, cuts[1:], strict=False)] or [table])
    again = run_steps(chunked, [step], KEYS)
    assert again.table.equals(whole.table), "a table in several chunks is the same table"
    assert again.marked.equals(whole.marked)


@given(texts=TEXTS)
@SMALL
def test_chunking_does_not_change_packing(bound, input_of, texts):
    """A reshape step sees rows, not chunks."""
    table = input_of("pack", texts)
    chunked = pa.concat_tables([table.slice(i, 1) for i in range(table.num_rows)] or [table])
    for mode in ("concat", "best_fit"):
        step = bound("pack", mode=mode)
        assert step(chunked, KEYS).equals(step(table, KEYS))
