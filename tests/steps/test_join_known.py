"""What is known of keys is found for any keys, whatever their hashes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, join_known, run_steps
from datapipe.steps.columns import column
from datapipe.steps.join_known import known_of
from datapipe.steps.join_right import KEY
from datapipe.steps.row_keys import key_texts

KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), max_size=30)


@pytest.fixture(params=["true", "all alike", "two"])
def hashes(request, monkeypatch):
    """Hashes as they are, and hashes by which nothing, or little, can be told apart."""
    real = join_known.hashes_of
    if request.param != "true":
        most = 1 if request.param == "all alike" else 2
        monkeypatch.setattr(join_known, "hashes_of", lambda keys: real(keys) % np.uint64(most))


@settings(max_examples=40, deadline=None)
@given(KEYS, KEYS, st.sampled_from(["first", "last"]))
def check(known, asked, duplicates):
    table = pa.table({KEY: pa.array(known, pa.large_string()), "n": pa.array(range(len(known)), pa.int64())})
    places = {key: i for i, key in (enumerate(known) if duplicates == "last" else reversed(list(enumerate(known))))}
    found = known_of([table], duplicates)
    rows = found.rows_of(pa.array([*asked, None, *known], pa.large_string()))
    expected = [places.get(key) for key in (*asked, None, *known)]
    assert found.columns.column("n").take(rows).to_pylist() == expected


def test_every_key_is_found(hashes):
    """As a dict finds it: keys that are there, others, null; also where hashes collide."""
    check()


@given(st.lists(st.tuples(KEYS, KEYS), max_size=8))
def test_keys_of_several_columns_differ_where_a_value_does(rows):
    """No two unlike rows have one key, wherever one value ends and the next begins."""
    texts = [("".join(a), "".join(b)) for a, b in rows]
    table = pa.table(
        {"a": pa.array([a for a, _ in texts], pa.string()), "b": pa.array([b for _, b in texts], pa.string())}
    )
    keys = key_texts(table, ["a", "b"], "t").to_pylist()
    for pair, key in zip(texts, keys, strict=True):
        assert (key is None) == ("" in pair)
    whole = [(pair, key) for pair, key in zip(texts, keys, strict=True) if key is not None]
    assert len({pair for pair, _ in whole}) == len({key for _, key in whole})


def test_of_a_key_that_is_not_there_it_is_said_what_there_is():
    """None of the columns that stages hand to each other is among them; whoever finds it missing."""
    table = pa.table({"row_id": ["a"], "user": [1], "__position": [0]})
    with pytest.raises(ConfigError) as caught:
        key_texts(table, ["usr"], "join: the table")
    assert (caught.value.expected, caught.value.fix) == ("one of row_id, user", "did you mean 'user'?")
    with pytest.raises(ConfigError, match="the table has row_id, user\n"):
        run_steps(table, [bind("join", {"files": ["f"], "key": "usr", "columns": ["x"]})], Keys())
    with pytest.raises(ConfigError, match="the table has row_id, user\n"):
        column(table, "usr", pa.string())
