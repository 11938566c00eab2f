"""The same step, either side: rows online equal rows offline, however they are batched."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps, steps_transform

KEYS = Keys(seed=11, epoch=2)


@pytest.fixture(scope="module")
def steps(tokenizer_path):
    return [
        bind("decode"),
        bind("html_to_text"),
        bind("unicode"),
        bind("gopher_quality@whitespace", {"min_words": 2, "max_mean_word_length": 50.0}),
        bind("tokenize", {"tokenizer": tokenizer_path, "keep_text": True}),
    ]


@given(seed=st.integers(0, 10**6), size=st.integers(1, 9))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_offline_equals_online(steps, make_documents, awkward, seed, size):
    """Rows in any order, in batches of any size, come out of the transform as they came out of run_steps."""
    table = make_documents([*awkward[:24], *(f"the cat and the dog {i} have it" for i in range(10))])
    offline = {row["row_id"]: row for row in run_steps(table, steps, KEYS).table.to_pylist()}
    order = list(range(table.num_rows))
    random.Random(seed).shuffle(order)
    transform = pickle.loads(pickle.dumps(steps_transform(steps, KEYS)))
    online = [
        row
        for start in range(0, len(order), size)
        for row in transform(table.take(order[start : start + size])).to_pylist()
    ]
    assert {row["row_id"]: row for row in online} == offline
    assert [row["row_id"] for row in online] == [
        each for each in table["row_id"].take(order).to_pylist() if each in offline
    ]


def test_shared_by_threads(steps, make_documents, awkward):
    """One transform, many threads: each gets the rows that one thread alone gets."""
    table = make_documents(awkward[:24])
    transform = steps_transform(steps, KEYS)
    expected = run_steps(table, steps, KEYS).table
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(transform, [table] * 16):
            assert result.equals(expected)


@pytest.mark.parametrize("name", ["exact_duplicates", "vocabulary", "pack"])
def test_only_map_steps(name):
    """A step that needs the corpus or a whole shard has no place in a batch, and the message says where it has."""
    with pytest.raises(ConfigError, match="in preprocessing"):
        steps_transform([bind("unicode"), bind(name)])


def test_rows_without_an_id():
    """Fresh records lack one: the message says what to add, not to change the recipe."""
    with pytest.raises(ConfigError, match="column row_id, which"):
        steps_transform([bind("unicode")])(pa.table({"text": ["x"]}))


def test_keys_of_the_call_win():
    """A loader hands in its seed and epoch; without them those bound are used."""
    transform = steps_transform([bind("unicode")])
    assert transform.keys == Keys()
    table = pa.table({"row_id": ["a"], "text": ["x "]})
    assert transform(table, KEYS).equals(transform(table))
