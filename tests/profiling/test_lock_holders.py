"""Who holds the lock: told by probes that met one stage alone, and by nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datapipe.profiling.lock_holders import lock_holders
from datapipe.profiling.machine_watch import Watched

MS = 1_000_000
NAMES = ("transform", "decode")


def probed(spans, late):
    """Transform in every first, decode in every second half of 20 ms; one probe in the middle of each, so late."""
    for i in range(len(late) // 2):
        spans.add("transform", 20 * i * MS, (20 * i + 10) * MS, item=i, thread=1)
        spans.add("decode", (20 * i + 10) * MS, (20 * i + 20) * MS, item=i, thread=2)
    probes = tuple(((10 * i + 5) * MS, ns) for i, ns in enumerate(late))
    return spans.run(watched=Watched(counters=(), lock=None, limit=None, probes=probes))


def test_each_stage_is_judged_by_its_own_probes(spans):
    """The lock is taken whenever the one runs and free whenever the other does."""
    assert lock_holders(probed(spans, [4 * MS, 0] * 8), NAMES) == {"transform": 1, "decode": 0}


def test_few_probes_say_nothing(spans, new_spans):
    """Four of four may be chance; half of ten may be either kind."""
    assert lock_holders(probed(spans, [4 * MS] * 8), NAMES) == {}
    assert lock_holders(probed(new_spans(), [4 * MS] * 10 + [0] * 10), NAMES) == {}


def test_a_stage_that_holds_it_at_times_has_its_share(spans):
    """Python between calls that let go of the lock: taken at 45 of 100 probes, as many as that say so."""
    late = [ns for i in range(100) for ns in (4 * MS * (i % 20 < 9), 0)]
    assert lock_holders(probed(spans, late), NAMES) == {"transform": 0.45, "decode": 0}


def test_a_stage_is_not_blamed_for_what_runs_beside_it(spans):
    """Two stages side by side all the time: whichever holds it, neither is named."""
    for i in range(20):
        for thread, name in enumerate(NAMES, 1):
            spans.add(name, 20 * i * MS, 20 * (i + 1) * MS, item=i, thread=thread)
    probes = tuple(((20 * i + 5) * MS, 4 * MS) for i in range(20))
    run = spans.run(watched=Watched(counters=(), lock=None, limit=None, probes=probes))
    assert lock_holders(run, NAMES) == {}
    assert lock_holders(run, ("decode",)) == {"decode": 1}  # as if the other did not compute


def test_without_probes_nothing_is_said(spans):
    assert lock_holders(spans.add("transform", 0, 10).run(), NAMES) == {}


@given(count=st.integers(0, 300), taken=st.integers(0, 300))
def test_more_taken_never_makes_a_lesser_holder(new_spans, count, taken):
    """One more probe that finds the lock taken does not lower the share; what is said is not far from what was seen."""
    taken = min(count, taken)
    late = [4 * MS] * taken + [0] * (count - taken)
    spans = new_spans().add("transform", 0, (count + 2) * MS)

    def share(late):
        probes = tuple((i * MS, ns) for i, ns in enumerate(late))
        watched = Watched(counters=(), lock=None, limit=None, probes=probes)
        return lock_holders(spans.run(watched=watched), NAMES).get("transform")

    said, more = share(late), share([4 * MS, *late])
    if said is not None:
        assert (said > 0) == (taken > 0.25 * count) or 0.25 * count < taken < 0.65 * count
        assert more is None or more >= said or said == taken / count
