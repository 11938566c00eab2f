"""blocklist: rows that hold what the user's lists name, and no others."""

from __future__ import annotations

import pickle
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps


@pytest.fixture
def lists(tmp_path):
    """Two files of entries."""
    (tmp_path / "a.txt").write_text("# a comment\nbad\n\nvery wrong\nC++\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("\ufeffÄrger\nbad\n", encoding="utf-8")
    return [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]


def run(texts, **options):
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.string())})
    return run_steps(table, [bind("blocklist", options)], Keys())


def hits(texts, **options):
    return run(texts, **options).signals["blocklist.hits"].to_pylist()


def test_golden(lists):
    """Whole words and phrases, whatever their case, at any place of the text."""
    texts = [
        "bad",
        "a BAD day",
        "badly",
        "not_bad",
        "very wrong, bad!",
        "very  wrong",
        "C++ and c++x",
        "ärger",
        "",
        "x",
    ]
    assert hits(texts, files=lists) == [1, 1, 0, 0, 2, 0, 2, 1, 0, 0]
    assert hits(texts, files=lists, whole_words=False) == [1, 1, 1, 1, 2, 0, 2, 1, 0, 0]
    assert hits(["Bad", "bad"], files=lists, ignore_case=False) == [0, 1]


def test_the_word_is_named_and_the_row_dropped(lists):
    """The first entry that was found is the detail of the mark."""
    ran = run(["fine", "so bad", "an Ärger"], files=lists)
    assert ran.table["text"].to_pylist() == ["fine"]
    assert [(r["row_id"], r["reason"], r["detail"]) for r in ran.marked.to_pylist()] == [
        ("1", "blocked_words", "bad"),
        ("2", "blocked_words", "ärger"),
    ]
    assert ran.counters == {"blocklist.hits": 2}


def test_limits(lists):
    """More than max_hits, and a share of the words above max_ratio."""
    texts = ["bad bad", "bad", "bad bad " + "word " * 98]
    assert run(texts, files=lists, max_hits=1).marked["row_id"].to_pylist() == ["0", "2"]
    assert run(texts, files=lists, max_ratio=0.05).marked["row_id"].to_pylist() == ["0", "1"]


def test_no_list_blocks_nothing():
    """A recipe may have the step before it has a list."""
    assert run(["bad"]).table.num_rows == 1


@pytest.mark.parametrize(("data", "says"), [(b"", "holds no entry"), (b"\xff\xfe", "is not UTF-8"), (None, "No such")])
def test_a_file_that_is_no_list(tmp_path, data, says):
    """Empty, in another encoding, missing: an error with its name."""
    if data is not None:
        (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(ConfigError, match=says) as caught:
        run(["x"], files=[str(tmp_path / "list.txt")])
    assert "list.txt" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab_ é", max_size=12), max_size=6), st.lists(st.text("abé", min_size=1, max_size=3), min_size=1)
)
def test_it_is_what_a_regular_expression_finds(tmp_path_factory, texts, entries):
    """Each entry at each place where it stands alone."""
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text("\n".join(entries))
    expected = [
        sum(len(re.findall(rf"(?<!\w)(?={re.escape(entry)}(?!\w))", text)) for entry in set(entries)) for text in texts
    ]
    assert hits(texts, files=[str(path)]) == expected


def test_a_pickle_holds_the_paths(lists):
    """A worker builds its own automaton."""
    step = bind("blocklist", {"files": lists})
    table = pa.table({"row_id": ["0"], "text": ["bad"]})
    step(table, Keys())
    assert pickle.loads(pickle.dumps(step))(table, Keys()).equals(step(table, Keys()))
