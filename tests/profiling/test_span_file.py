"""Spans on disk: what is read back is the run; what is no such file says so."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.errors import ProfileError
from datapipe.profiling.changes import Change
from datapipe.profiling.lock_probe import lock_delay
from datapipe.profiling.machine_watch import Watched
from datapipe.profiling.span_file import NAME, load_spans, save_spans
from datapipe.profiling.what_if import what_if


def test_a_run_read_back_gives_the_same_predictions(steady_run, tmp_path):
    """The spans are the same, and so is what a replay of them says; the cores are those of the recording."""
    run = steady_run(n=40, noise=0.1, environment={"cpus usable": 3})
    save_spans(run, tmp_path)
    again = load_spans(tmp_path)
    assert np.array_equal(again.spans, run.spans)
    assert (again.stages, again.threads, again.environment) == (run.stages, run.threads, {"cpus usable": 3})
    change = Change(kind="device", factor=2.0)
    assert what_if(again, change) == what_if(run, change)


def test_what_is_missing_or_damaged_says_so(steady_run, tmp_path):
    """No file, half a file, another file, a pickle: each a `ProfileError`, and nothing is unpickled."""
    with pytest.raises(ProfileError, match="no spans"):
        load_spans(tmp_path)
    whole = save_spans(steady_run(n=20), tmp_path).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no archive", whole[:200] + b"\0" * 64 + whole[264:]):
        (tmp_path / NAME).write_bytes(damaged)
        with pytest.raises(ProfileError, match="damaged"):
            load_spans(tmp_path)
    np.savez(tmp_path / NAME, spans=np.array([{}], dtype=object), about=np.zeros(1, np.uint8))
    with pytest.raises(ProfileError, match="damaged"):
        load_spans(tmp_path)


def test_the_delay_of_the_lock_is_kept(steady_run, tmp_path):
    """It decides what a replay takes to hold the lock, so it is read back."""
    lock = lock_delay([0, 6_000_000, 5_000_000], enabled=True, switch=5e6, cpu=1)
    probes = ((10, 0), (20, 6_000_000), (30, 5_000_000))
    save_spans(
        steady_run(n=20, watched=Watched(counters=(), lock=lock, limit=None, probes=probes, stalled=0.25)), tmp_path
    )
    assert load_spans(tmp_path).watched.lock == lock
    assert load_spans(tmp_path).watched.probes == probes
    assert load_spans(tmp_path).watched.stalled == 0.25
