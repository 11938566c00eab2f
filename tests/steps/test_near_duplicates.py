"""The row half of near_duplicates: what it adds to a row is a function of its text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind
from datapipe.steps.near_duplicates import BANDS, RULE, SCORE, SHINGLES, SIZE

TEXT = "the quick brown fox jumps over the lazy dog and runs away"
GOLDEN = [3346008520853715134, 1732856506139196516]


def signed(texts, **options):
    table = pa.table({"text": texts, "rank": [float(i) for i in range(len(texts))]})
    return bind("near_duplicates", options)(table, Keys())


def test_golden():
    """What is stored in a dataset's index: it never changes under the same rule."""
    row = signed([TEXT], bands=2, rows=3).to_pylist()[0]
    assert RULE == "words 1; shingles 1; fast similarity sketch 1"
    assert (row[SIZE], row[SCORE], len(row[SHINGLES])) == (8, 57.0, 8)
    assert np.frombuffer(row[BANDS], "<u8").tolist() == GOLDEN


def test_the_sketch_keeps_the_least():
    """Of more shingles than that, those with the least hashes; the size tells how many there were."""
    text = " ".join(map(str, range(500)))
    whole, cut = (signed([text, TEXT], sketch=size).to_pylist() for size in (1000, 64))
    assert [row[SIZE] for row in cut] == [row[SIZE] for row in whole] == [496, 8]
    assert cut[0][SHINGLES] == whole[0][SHINGLES][:64]
    assert cut[1][SHINGLES] == whole[1][SHINGLES]
    assert [row[BANDS] for row in cut] == [row[BANDS] for row in whole], "bands are of all shingles"


@pytest.mark.parametrize(
    ("survivor", "scores"), [("first", [0, 0, 0]), ("longest", [1, 3, 0]), ("highest:rank", [0, 1, 2])]
)
def test_scores(survivor, scores):
    """The greatest stays."""
    assert signed(["é", "abc", ""], survivor=survivor)[SCORE].to_pylist() == scores


def test_a_missing_rank_is_below_all(bound):
    """Null and NaN in the user's column never beat a number."""
    table = pa.table({"text": ["a", "b", "c"], "rank": [None, float("nan"), -1e300]})
    scores = bound("near_duplicates", survivor="highest:rank")(table, Keys())[SCORE].to_pylist()
    assert scores == [-np.inf, -np.inf, -1e300]


def test_the_column_is_needed():
    """A recipe without it is refused before it runs; so is a column of another type."""
    step = bind("near_duplicates", {"survivor": "highest:rank"})
    assert step.spec.needs == ("text", "rank")
    with pytest.raises(ConfigError, match="rank"):
        step(pa.table({"text": ["a"], "rank": ["high"]}), Keys())


@pytest.mark.parametrize(
    "options", [{"survivor": "best"}, {"survivor": "highest:"}, {"threshold": 1.1}, {"words": 0}, {"sketch": 3}]
)
def test_refused(options):
    """Options out of range."""
    with pytest.raises(ConfigError):
        bind("near_duplicates", options)
