"""Real runs: what the user's loop sees is untouched, and the ledger of what it did adds up."""

from __future__ import annotations

import time

import numpy as np
import pytest

import datapipe
from datapipe import events
from datapipe.errors import ProfileError
from datapipe.profiling import load_profile
from datapipe.profiling.recording import profile, rows_in


def spin(ms):
    end = time.perf_counter_ns() + ms * 1e6
    while time.perf_counter_ns() < end:
        pass


def test_the_ledger_of_a_real_run_adds_up(tmp_path):
    """Sleeps, spins, nested phases, two epochs, an evaluation: the remainder is at most 0.5% of the wall."""

    def batches():
        for i in range(25):
            time.sleep(0.002)
            yield i

    with profile(tmp_path / "run") as prof:
        spin(10)
        for _ in range(2):
            for _batch in prof.steps(batches()):
                with prof.phase("forward"):
                    spin(1)
                    with prof.phase("attention"):
                        spin(1)
                with prof.phase("backward"):
                    time.sleep(0.001)
            with prof.phase("evaluate"):
                spin(5)
        spin(3)
    summary = prof.summary()
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns
    assert sum(part.total for part in summary.run) + summary.remainder_ns == summary.wall_ns
    assert all(part.total >= 0 for part in summary.run)
    assert sum(part.mean for part in summary.parts) == pytest.approx(summary.step.mean)
    assert sum(part.share for part in summary.parts) == pytest.approx(1)
    # Each part lasted at least as long as it was made to.
    least = {"wait": 2e6, "forward": 1e6, "attention": 1e6, "backward": 1e6}
    assert all(summary.part(name).p50 >= ns for name, ns in least.items())
    assert summary.series.count == 50
    assert summary.series.kind.count(2) == 1
    assert summary.epochs == 2
    run = {part.name: part.total for part in summary.run}
    assert run["startup"] >= 10e6
    assert run["evaluate (between steps)"] >= 5e6
    assert run["evaluate (after)"] >= 5e6
    assert run["teardown"] >= 3e6


def test_a_finished_run_is_written(tmp_path):
    with profile(tmp_path / "a" / "b", title="mine") as prof:
        for _ in prof.steps(range(12)):
            pass
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "profile.json", "report.html", "spans.npz", "trace.json.gz",
    ]  # fmt: skip
    assert load_profile(tmp_path / "a" / "b") == prof.summary()
    assert prof.summary().complete


def test_an_exception_passes_and_the_run_is_written_incomplete(tmp_path):
    with pytest.raises(RuntimeError, match="boom"), profile(tmp_path / "run") as prof:  # noqa: PT012  (a loop)
        for i in prof.steps(range(100)):
            if i == 7:
                raise RuntimeError("boom")
    summary = load_profile(tmp_path / "run")
    assert (summary.complete, summary.error, summary.series.count) == (False, "RuntimeError", 8)
    assert events.active() is None


def test_an_unwritable_folder_does_not_hide_the_runs_own_exception(tmp_path):
    """The user's error comes first, with a note on the profile; without one, the profile's error is raised."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match="mine") as caught, profile(blocked / "run"):
        raise ValueError("mine")
    assert "could not be written" in caught.value.__notes__[0]
    with pytest.raises(ProfileError), profile(blocked / "run"):
        pass


class Iterator:
    def __init__(self, n):
        self.left, self.closed = n, 0

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left

    def close(self):
        self.closed += 1


class Loader:
    def __init__(self, n):
        self.n, self.made = n, []

    def __iter__(self):
        self.made.append(Iterator(self.n))
        return self.made[-1]


@pytest.mark.parametrize("stop_at", [None, 0, 3])
def test_iterators_made_for_the_loop_are_closed_with_it(stop_at):
    """Whether the loop runs out or is left early, its iterator is closed once; batches come as they are."""
    loader = Loader(5)
    seen = []
    with profile() as prof:
        for batch in prof.steps(loader):
            seen.append(batch)
            if batch == stop_at:
                break
    assert loader.made[0].closed == 1
    assert seen == [b for b in (4, 3, 2, 1, 0) if stop_at is None or b >= stop_at]
    assert prof.summary().series.count == len(seen)


def test_the_users_own_iterator_is_left_open():
    """An iterator the user holds goes on after the loop is left."""
    mine = Iterator(5)
    with profile() as prof:
        for batch in prof.steps(mine):
            if batch == 3:
                break
        assert next(mine) == 2
    assert mine.closed == 0


def test_an_exception_of_the_loader_passes():
    def broken():
        yield 1
        raise OSError("disk")

    with profile() as prof, pytest.raises(OSError, match="disk"):
        for _ in prof.steps(broken()):
            pass
    assert prof.summary().series.count == 1


def test_a_batch_is_not_kept_while_the_next_is_made():
    """The profile holds no reference to a batch the loop has let go: memory is that of the loop alone."""
    import weakref

    class Batch:
        pass

    alive = []

    def batches():
        for _ in range(3):
            assert all(ref() is None for ref in alive)
            batch = Batch()
            alive.append(weakref.ref(batch))
            yield batch
            del batch

    with profile() as prof:
        loop = prof.steps(batches())
        for batch in loop:
            del batch


def test_a_summary_can_be_had_during_the_run():
    with profile() as prof:
        for i in prof.steps(range(30)):
            if i == 20:
                so_far = prof.summary()
    assert so_far.series.count == 20
    assert not so_far.complete
    assert prof.summary().series.count == 30


def test_misuse_is_said():
    """steps() outside the block, a second use, a summary before, a report without a folder: each says what to do."""
    prof = profile()
    with pytest.raises(ProfileError, match="not open"):
        prof.steps([])
    with pytest.raises(ProfileError, match="not run"):
        prof.summary()
    with prof:
        pass
    with pytest.raises(ProfileError, match="closed"):
        prof.steps([])
    with pytest.raises(ProfileError, match="used"):
        prof.__enter__()
    with pytest.raises(ProfileError, match="no folder"):
        prof.report()


def test_steps_go_on_counting_over_epochs_and_samples_are_counted():
    with profile() as prof:
        for _ in range(3):
            for _batch in prof.steps([np.zeros((4, 2))] * 5):
                pass
    summary = prof.summary()
    assert summary.series.number == list(range(15))
    assert summary.samples == 60


@pytest.mark.parametrize(
    ("batch", "rows"),
    [(np.zeros((7, 2)), 7), ({"x": np.zeros(3)}, 3), ([np.zeros((2, 9)), 1], 2), ({"a": ({"b": np.zeros(5)},)}, 5),
     (3, None), ("text", None), ({}, None), ([], None), (np.float64(1), None)],
)  # fmt: skip
def test_rows_of_a_batch(batch, rows):
    assert rows_in(batch) == rows


def test_the_longest_runs_lose_nothing_to_the_ring():
    """A loop that makes many times more spans than a ring holds, as fast as it can, loses none."""
    n = 60_000
    with profile() as prof:
        for _ in prof.steps(range(n)):
            pass
    summary = prof.summary()
    assert (summary.series.count, summary.recorder.lost, summary.recorder.spans) == (n, 0, 2 * n + 1)
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns
    assert summary.series.every > 1
    assert len(summary.series.number) <= 10_000


def test_a_phase_for_every_batch_is_no_name_for_every_batch(tmp_path):
    """Names beyond a hundred are one, which is said: the ledger adds up, the files are of a report's size."""
    n = 300
    with profile(tmp_path, brief=True) as prof:
        for batch in prof.steps(range(n)):
            with prof.phase(f"batch {batch}"):
                pass
    summary = prof.summary()
    further = next(part for part in summary.parts if part.name == "further names")
    assert further.total > 0
    assert len(summary.parts) <= 101
    assert any("further names" in line for line in summary.unmeasured)
    assert (tmp_path / "report.html").stat().st_size < 2 << 20


def test_the_public_name():
    assert datapipe.profile is profile
