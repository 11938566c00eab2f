"""The row ledger: adds up, or raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import LedgerError
from datapipe.preprocess.row_ledger import RowLedger
from datapipe.preprocess.tasks import TaskRecord


def record(split, rows_in, rows_out, dropped=None, duplicates=0, quarantined=None, shard=None):
    return TaskRecord(
        key="k", stage="s", split=split, seconds=0.0, rows_in=rows_in, rows_out=rows_out, dropped=dropped or {},
        duplicates=duplicates, quarantined=quarantined or {}, shard={"path": shard} if shard else None,
    )  # fmt: skip


COUNT = st.integers(0, 50)


@given(st.lists(st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT), min_size=1, max_size=6))
def test_what_adds_up_is_summed(rows):
    """For any counts, a split's entry accounts for every document, and the total is the sum of the splits."""
    ledger = RowLedger(len(rows))
    ledger.add(
        "clean",
        {
            i: record(i, out + a + b + dup + c, out + a + dup, {"x": b}, 0, {"y": c})
            for i, (out, a, b, c, dup) in enumerate(rows)
        },
    )
    ledger.add(
        "write",
        {
            i: record(i, out + a + dup, out, {"x": a}, dup, shard=f"data/{i}")
            for i, (out, a, _, _, dup) in enumerate(rows)
        },
    )
    for (out, a, b, c, dup), entry in zip(rows, ledger.entries(), strict=True):
        assert entry.unaccounted == 0
        assert (entry.out, entry.duplicates, entry.dropped, entry.quarantined) == (out, dup, {"x": a + b}, {"y": c})
    total = ledger.total()
    assert total["documents_in"] == sum(sum(row) for row in rows)
    assert total["documents_out"] == sum(row[0] for row in rows)


def test_a_lost_row_stops_the_run():
    """One row in that is nowhere: LedgerError, with the split and its numbers."""
    with pytest.raises(LedgerError, match="split 0: 10 rows in, 8 out, 1 gone"):
        RowLedger(1).add("clean", {0: record(0, 10, 8, {"x": 1})})


def test_a_row_from_nowhere_stops_the_run():
    """More rows out than in is no better."""
    with pytest.raises(LedgerError):
        RowLedger(1).add("clean", {0: record(0, 10, 11)})


def test_a_stage_must_read_what_was_written():
    """Rows lost between two stages are found, also where a split is missing altogether."""
    ledger = RowLedger(2)
    ledger.add("clean", {0: record(0, 5, 5), 1: record(1, 4, 0, {"x": 4})})
    with pytest.raises(LedgerError, match="split 0: read 4 rows"):
        ledger.add("write", {0: record(0, 4, 4)})
    again = RowLedger(1)
    again.add("clean", {0: record(0, 5, 5)})
    with pytest.raises(LedgerError, match="read 0 rows"):
        again.add("write", {})


def test_a_split_with_nothing_left_needs_no_record():
    """Rows that all went in one stage are not looked for in the next."""
    ledger = RowLedger(1)
    ledger.add("clean", {0: record(0, 5, 0, {"x": 5})})
    ledger.add("write", {})
    assert ledger.entries()[0].out == 0
    assert ledger.entries()[0].shard is None
