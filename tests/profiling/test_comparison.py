from __future__ import annotations

import json

import numpy as np
import pytest

from datapipe.errors import ProfileError
from datapipe.profiling import compare, comparison
from datapipe.profiling.analysis import summarise
from datapipe.profiling.comparison import _holm, _p_values
from datapipe.profiling.profile_file import save_profile


def test_the_part_that_changed_is_named(steady_run):
    """A backward 30% slower: the step is slower by that much, in that part, and by more than noise."""
    a = summarise(steady_run(n=120, noise=0.05, seed=1))
    b = summarise(steady_run(n=120, backward=3.9, noise=0.05, seed=2))
    found = compare(a, b)
    assert found.parts[0].name == "backward"
    assert found.parts[0].relative == pytest.approx(0.3, abs=0.03)
    assert found.step.of_step == pytest.approx(0.15, abs=0.02)
    assert found.step.significant
    assert "slower" in found.sentence
    assert "backward" in found.sentence
    assert not any(change.significant for change in found.parts if change.name == "forward")
    assert (found.regressed(), found.regressed(0.5)) == (True, False)
    assert not compare(b, a).regressed()


def test_differences_of_parts_sum_to_that_of_the_step(steady_run):
    found = compare(summarise(steady_run(noise=0.2, seed=1)), summarise(steady_run(wait=4, noise=0.2, seed=5)))
    assert sum(change.difference for change in found.parts) == pytest.approx(found.step.difference)
    wait = next(change for change in found.parts if change.name == "wait")
    assert sum(change.difference for change in found.waits) == pytest.approx(wait.difference)


@pytest.fixture
def fewer(monkeypatch):
    """A tenth of the permutations: p is a multiple of 0.001, which 0.01 does not notice."""
    monkeypatch.setattr(comparison, "_PERMUTATIONS", 999)


def test_noise_is_not_a_regression(steady_run, fewer):
    """Of 40 pairs of like runs, about 1% may seem to differ at p < 0.01; more than four would be a wrong test."""
    seen = [
        compare(summarise(steady_run(noise=0.3, seed=2 * i)), summarise(steady_run(noise=0.3, seed=2 * i + 1)))
        for i in range(40)
    ]
    assert sum(found.step.significant for found in seen) <= 4


def test_drifting_runs_are_not_taken_for_different_ones(fewer):
    """Steps that resemble their neighbours give p-values that are not far too small."""
    random = np.random.default_rng(0)

    def walk():
        noise = random.standard_normal(1000)
        drift = np.convolve(noise, np.ones(8) / 8, mode="same")
        return (10 + drift)[:, None]

    small = sum(_p_values(walk(), walk())[0] < 0.01 for _ in range(60))
    assert small <= 5


def test_files_and_summaries_compare_alike(steady_run, tmp_path):
    a, b = summarise(steady_run(noise=0.1)), summarise(steady_run(wait=2, noise=0.1, seed=3))
    save_profile(a, tmp_path / "a")
    save_profile(b, tmp_path / "b")
    assert compare(tmp_path / "a", tmp_path / "b" / "profile.json") == compare(a, b)


def test_too_few_steps_have_no_p(steady_run):
    found = compare(summarise(steady_run(n=5)), summarise(steady_run(n=50, wait=9)))
    assert found.step.p is None
    assert not found.regressed()
    assert "Too few" in found.sentence


def test_a_profile_without_steps_cannot_be_compared(steady_run, spans):
    with pytest.raises(ProfileError, match="second"):
        compare(summarise(steady_run()), summarise(spans.add("fetch", 0, 10).run()))


def test_what_differs_beside_the_times_is_said(steady_run):
    a = summarise(steady_run(environment={"torch": "2.6"}, notes={"batch": 32}))
    b = summarise(steady_run(environment={"torch": "2.7"}, notes={"batch": 32}, complete=False))
    assert compare(a, b).differs == ("torch: 2.6 → 2.7", "a run did not end normally")


def test_it_prints_and_is_json(steady_run):
    found = compare(summarise(steady_run()), summarise(steady_run(wait=2, seed=4)))
    assert json.loads(json.dumps(found.as_dict()))["step"]["name"] == "step"
    lines = str(found).splitlines()
    assert lines[0] == found.sentence
    assert any(line.startswith("wait") for line in lines)


def test_holm_corrects_in_order():
    """The textbook example: 0.01, 0.04, 0.03 of three become 0.03, 0.06, 0.06."""
    assert _holm([0.01, 0.04, 0.03, None]) == pytest.approx([0.03, 0.06, 0.06, None])


def autoregressive(random, n, rho, mean=10.0):
    """Steps each of which is `rho` of the one before and chance, as a table of one column."""
    steps = np.zeros(n + 50)
    for i in range(1, n + 50):
        steps[i] = rho * steps[i - 1] + random.standard_normal()
    return (mean + steps[50:])[:, None]


@pytest.mark.parametrize(("rho", "n"), [(0.0, 50), (0.5, 100), (0.9, 100), (0.9, 300), (0.97, 100)])
def test_runs_that_drift_are_not_taken_for_different_ones_however_short(fewer, rho, n):
    """Of 60 pairs of like runs hardly any seem to differ at p < 0.01: those that cannot be judged have no p."""
    random = np.random.default_rng(1)
    found = [_p_values(*(autoregressive(random, n, rho) for _ in "ab"))[0] for _ in range(60)]
    assert sum(p is not None and p < 0.01 for p in found) <= 3
    assert sum(p is not None and p < 0.05 for p in found) <= 8


def test_what_differs_is_seen_though_steps_drift():
    """A change of two standard deviations between runs of 100 steps, each half its neighbour."""
    random = np.random.default_rng(1)
    pairs = [(autoregressive(random, 100, 0.5), autoregressive(random, 100, 0.5, mean=12.3)) for _ in range(10)]
    assert sum(_p_values(*pair)[0] < 0.01 for pair in pairs) >= 8


def test_a_short_run_that_drifts_is_refused_with_the_reason(steady_run):
    """100 steps in which a wait grows and shrinks slowly are worth a few independent ones: said, and no p."""
    wait = 10 + np.abs(np.cumsum(np.random.default_rng(3).standard_normal(100)))
    found = compare(summarise(steady_run(n=100, wait=wait)), summarise(steady_run(n=100, wait=wait + 5)))
    assert found.step.p is None
    assert not found.regressed()
    assert "resemble their neighbours" in found.sentence
    assert "record longer runs" in found.sentence
