"""What a run says of itself adds up on the page and survives JSON."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from datapipe.cli.preprocess import summary_lines
from datapipe.preprocess.run_report import _facts
from datapipe.preprocess.summary import RunSummary

COUNTS = st.dictionaries(st.sampled_from(["short", "symbols", "empty"]), st.integers(0, 10**9))


def summary(**values):
    base = {
        "output": "out", "fingerprint": "dp1-0", "recipe": "text", "documents_in": 0, "documents_out": 0, "dropped": {},
        "duplicates": 0, "quarantined": {}, "rows": 0, "tokens": None, "shards": 0, "bytes_in": 0, "text_bytes": 0,
        "seconds": 2.0, "tasks_run": 0, "tasks_reused": 0, "workers": 1,
    }  # fmt: skip
    return RunSummary(**{**base, **values})


@given(st.integers(0, 10**9), COUNTS, st.integers(0, 10**9), COUNTS)
def test_the_lines_add_up(out, dropped, duplicates, quarantined):
    """The first line's number is the sum of those below it, whatever the counts."""
    total = out + sum(dropped.values()) + duplicates + sum(quarantined.values())
    lines = summary(
        documents_in=total, documents_out=out, dropped=dropped, duplicates=duplicates, quarantined=quarantined
    ).ledger_lines()
    numbers = [int(re.search(r" ([\d,]+)(  +[\d.]+%)?$", line)[1].replace(",", "")) for line in lines]
    assert numbers[0] == total == sum(numbers[1:])
    assert len(lines) == 3 + len(dropped) + len(quarantined)


def test_rates_are_of_wall_time():
    """Documents and 10^6 bytes per second; a run of no time has no rate."""
    done = summary(documents_in=10, bytes_in=4_000_000)
    assert (done.docs_per_s, done.mb_per_s) == (5.0, 2.0)
    assert summary(seconds=0.0, documents_in=10).docs_per_s == 0.0
    assert json.loads(json.dumps(done.as_dict()))["mb_per_s"] == 2.0


def test_one_is_not_many():
    """A task is one; a small corpus has a speed."""
    said = "\n".join(summary_lines(summary(documents_in=10, bytes_in=900, tasks_run=1, shards=1, rows=1)))
    assert "5 documents/s, 450 B/s over 2.0 s; 1 task run, 0 reused" in said
    assert "1 row in 1 shard" in said
    assert ("Speed", "5/s", "documents; 450 B/s stored") in _facts(summary(documents_in=10, bytes_in=900))


def test_the_largest_reasons_have_a_line_each():
    """The rest are summed, with a word on where they are told; the lines add up all the same."""
    dropped = {f"rule_{n:02d}": n for n in range(1, 16)}
    done = summary(documents_in=220, dropped=dropped, quarantined={"hung": 100})
    lines = done.ledger_lines(most=10)
    assert len(lines) == 3 + 10 + 1
    assert "dropped: rule_07" in lines[-4]
    assert "quarantined: hung" in lines[-2]
    assert lines[-1].split()[:4] == ["and", "6", "more", "(report.html)"]
    assert sum(int(line.rpartition("  ")[0].split()[-1]) for line in lines[1:]) == 220
    assert done.ledger_lines(most=16) == done.ledger_lines()
