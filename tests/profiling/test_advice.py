"""A fix in words, and as part of a profile."""

import dataclasses

import pytest

from datapipe.profiling.advice import Advice, Applied, Fix
from datapipe.profiling.analysis import summarise
from datapipe.profiling.profile_file import load_profile, save_profile


def fix(gain=0.5, effort=0, **more):
    return Fix(
        title="4 worker processes", do="num_workers=4", cost="memory", effort=effort, gain=gain, recorded_ns=10e6,
        step_ns=10e6 * (1 - gain), low=4e6, high=6e6, extrapolated=True, reason="replay", **more,
    )  # fmt: skip


def test_more_effort_must_gain_more():
    """An option outranks another pass over the data that gains up to four times as much."""
    assert fix(0.2, 0).rank > fix(0.39, 1).rank > fix(0.7, 2).rank


def test_the_applicable_fix_is_the_best_that_needs_no_edit():
    """A better one that needs an edit is passed over; without any there is none."""
    edit, option = fix(0.5), fix(0.3, options={"num_workers": 4})
    assert Advice(fixes=(edit, option), sentence="").applicable is option
    assert Advice(fixes=(edit,), sentence="").applicable is None


def test_a_fix_says_its_gain_interval_and_doubt():
    """One line carries all that a reader needs to judge it."""
    said = str(fix())
    assert all(part in said for part in ("−50%", "4.00 ms to 6.00 ms", "extrapolated", "num_workers=4"))


@pytest.mark.parametrize(("measured", "where"), [(5e6, "inside"), (7e6, "outside")])
def test_predicted_stands_beside_measured(measured, where):
    """Whether the measurement lies in the interval is said either way."""
    done = Applied(
        title="x", options={}, recorded_ns=10e6, predicted_ns=5e6, low=4e6, high=6e6, measured_ns=measured,
        inside=4e6 <= measured <= 6e6, error=5e6 / measured - 1, p=0.0001,
    )  # fmt: skip
    assert f"{where} its 80% interval" in str(done)
    assert f"{5e6 / measured - 1:+.1%} off" in str(done)


def test_advice_is_kept_in_the_profile_and_older_profiles_have_none(steady_run, tmp_path):
    """What is saved is what is read, option values with their types; a file without advice reads as None."""
    plain = summarise(steady_run())
    options = {"num_workers": 4, "pin_memory": True, "workers": "process", "in_order": None}
    advised = dataclasses.replace(plain, advice=Advice(fixes=(fix(options=options),), sentence="one"))
    save_profile(advised, tmp_path)
    assert load_profile(tmp_path) == advised
    older = tmp_path / "older"
    text = (save_profile(plain, older)).read_text().replace(',"advice":null', "")
    (older / "profile.json").write_text(text)
    assert load_profile(older).advice is None
