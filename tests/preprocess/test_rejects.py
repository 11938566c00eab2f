"""The sample of rejects: seeded, bounded, the same however the rows were cut."""

import datetime as dt
import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datapipe.preprocess.rejects import PER_REASON, RejectSample, excerpts, rank_of
from datapipe.preprocess.tasks import Reject


def reject(row_id, reason="short", seed=0):
    return Reject(rank=rank_of(seed, reason, row_id), row_id=row_id, reason=reason, step="s", excerpt="…")


@given(st.lists(st.integers(0, 300), unique=True), st.integers(1, 9))
def test_a_sample_of_samples_is_the_sample_of_all(numbers, parts):
    """Splits may be sampled apart and merged: the same rows come out, at most 20 of a reason."""
    rows = [reject(f"r{i}", "even" if i % 2 == 0 else "odd") for i in numbers]
    whole = RejectSample(0)
    whole.add(rows)
    merged = RejectSample(0)
    for part in range(parts):
        sample = RejectSample(0)
        sample.add(rows[part::parts])
        merged.add(sample.rows())
    assert merged.rows() == whole.rows()
    for reason in ("even", "odd"):
        chosen = [r for r in whole.rows() if r.reason == reason]
        assert len(chosen) == min(PER_REASON, sum(r.reason == reason for r in rows))


def test_another_seed_is_another_sample():
    """The seed chooses."""
    chosen = []
    for seed in (0, 1):
        sample = RejectSample(seed)
        sample.add(reject(f"r{i}", seed=seed) for i in range(200))
        chosen.append({r.row_id for r in sample.rows()})
    assert chosen[0] != chosen[1]


def test_files_are_json_lines_by_reason():
    """One file a reason; each line has row id, reason, step and excerpt."""
    sample = RejectSample(0)
    sample.add([reject("a:0"), reject("b:1", "empty")])
    files = sample.files()
    assert sorted(files) == ["empty.jsonl", "short.jsonl"]
    assert json.loads(files["empty.jsonl"]) == {"row_id": "b:1", "reason": "empty", "step": "s", "excerpt": "…"}


def test_excerpts_are_short_and_readable():
    """200 characters at most of text or of bytes, whatever is in them."""
    table = pa.table({"row_id": ["a", "b", "c"], "text": pa.array(["x" * 999, "a\0b", None], pa.large_string())})
    assert excerpts(table, ["b", "a", "nobody", "c"]) == ["a\ufffdb", "x" * 200, "", ""]
    raw = pa.table({"row_id": ["a"], "raw": pa.array([b"\xff\xfe" * 500], pa.large_binary())})
    assert len(excerpts(raw, ["a"])[0]) == 200
    assert excerpts(pa.table({"row_id": ["a"]}), ["a"]) == [""]


def test_what_a_step_saw_is_shown():
    """Of rows that have it, instead of what was read; it is cut and cleaned alike."""
    table = pa.table({"row_id": ["a", "b"], "text": ["<html>", "<body>"]})
    assert excerpts(table, ["b", "a"], {"b": "prose\0" + "x" * 999}) == ["prose\ufffd" + "x" * 194, "<html>"]


def test_the_excerpt_of_a_record():
    """Of a row without a text its values are shown, as JSON, cut; not its id, nor what is the engine's own."""
    table = pa.table({"row_id": ["r"], "a": [1], "when": [dt.date(2020, 1, 2)], "__position": [0]})
    assert excerpts(table, ["r", "none"]) == ['{"a": 1, "when": "2020-01-02"}', ""]
    assert len(excerpts(table.set_column(1, "a", pa.array(["x" * 999])), ["r"])[0]) == 200
