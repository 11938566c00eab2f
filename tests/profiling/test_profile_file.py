from __future__ import annotations

import errno
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe.errors import NoSpaceError, ProfileError
from datapipe.profiling import load_profile, profile_file, render
from datapipe.profiling.analysis import summarise
from datapipe.profiling.profile_file import save_profile
from datapipe.profiling.report import report_html


@pytest.fixture
def saved(tmp_path, steady_run):
    summary = summarise(steady_run(memory=((0.0, 10), (0.5, 20)), environment={"python": "3"}, notes={"a": 1.5}))
    return summary, save_profile(summary, tmp_path / "run")


def test_what_is_saved_is_what_is_read(saved):
    """By the folder's name or the file's; plain JSON that says its format and version."""
    summary, path = saved
    assert load_profile(path) == load_profile(path.parent) == summary
    data = json.loads(path.read_text())
    assert (data["format"], data["version"]) == ("datapipe-profile", 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "not JSON"),
        (lambda raw: b"", "not JSON"),
        (lambda raw: b"\xff\xfe\x00", "not JSON"),
        (lambda raw: b"[1, 2]", "not a profile"),
        (lambda raw: b'{"format": "other"}', "not a profile"),
        (lambda raw: raw.replace(b'"version":1', b'"version":99'), "version 99"),
        (lambda raw: raw.replace(b'"wall_ns":', b'"wall":'), "wall_ns"),
        (lambda raw: raw.replace(b'"lost":0', b'"lost":"many"'), "recorder.lost"),
        (lambda raw: raw.replace(b'"number":[0,', b'"number":['), "differ in length"),
        (lambda raw: b"[" * 200_000, "not JSON"),
    ],
)
def test_a_damaged_file_is_a_profile_error(saved, damage, message):
    _, path = saved
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ProfileError, match=message):
        load_profile(path)


def changed(value, how):
    """A profile's JSON with every number or text put through a function; what says that it is a profile is kept."""
    if isinstance(value, dict):
        return {name: inner if name in ("format", "version") else changed(inner, how) for name, inner in value.items()}
    return [changed(inner, how) for inner in value] if isinstance(value, list) else how(value)


def number(how):
    return lambda value: how(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.parametrize(
    ("how", "field"),
    [
        (number(lambda n: -n), "started_unix_ns"),
        (number(lambda n: n if isinstance(n, int) else math.inf), "steps_per_second"),
        (number(lambda n: n if isinstance(n, int) else math.nan), "steps_per_second"),
        (number(lambda n: n * 10**30 if isinstance(n, int) else n), "beyond 64 bits"),
        (lambda value: f"{value}\n" if isinstance(value, str) else value, "verdict.kind"),
    ],
)
def test_figures_that_no_run_has_are_refused_by_name(saved, how, field):
    """Negated, infinite or beyond 64 bits, or with other words for its kinds: an error that names the field."""
    _, path = saved
    path.write_text(json.dumps(changed(json.loads(path.read_text()) | {"started_unix_ns": 5}, how)))
    with pytest.raises(ProfileError, match=f"damaged: .*{field}"):
        load_profile(path)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=st.sampled_from([-1, 0, 10**18, -(10**18), 0.5, "other", "", None]))
def test_whatever_one_field_holds_is_shown_or_refused(saved, data, value):
    """Any field of a profile changed: it is a `ProfileError`, or the page and the terminal's text can be made."""
    _, path = saved
    facts = json.loads(path.read_text())
    inner, place = facts, None
    while isinstance(inner, dict | list) and inner:
        holder, place = inner, data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else [0]))
        inner = holder[place]
    holder[place] = value
    (path.parent / "changed.json").write_text(json.dumps(facts))
    try:
        summary = load_profile(path.parent / "changed.json")
    except ProfileError:
        return
    assert "</html>" in report_html(summary)
    render(summary)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ProfileError, match="datapipe profile"):
        load_profile(tmp_path / "nowhere")


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    """A full disk is said to be full, and what was there stays."""
    summary, path = saved
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(profile_file.Path, "replace", full)
    with pytest.raises(NoSpaceError):
        save_profile(summary, path.parent)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["profile.json"]
