"""Ranks as processes: each leaves its summary, and the one that is late by far is named."""

from __future__ import annotations

from datapipe.cli.selftest.slow_rank import RANKS, slow_ranks


def test_the_slow_rank_is_named(tmp_path):
    """A rank that takes a third of the step longer than the others, each a process: margins of many milliseconds."""
    for slow, named in slow_ranks(tmp_path, 1, seed=1, scale=2.0):
        assert 0 <= slow < RANKS
        assert named == slow
