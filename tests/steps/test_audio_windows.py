"""audio_windows: windows of a sound, one after the other, are the sound."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import sounds_table, stored, tone

from datapipe.errors import StepError
from datapipe.steps import Keys, bind, run_steps, sieve_of
from datapipe.steps.audio_reading import read_sound


def cut(table, **options):
    return run_steps(table, [bind("audio_windows", options)], Keys()).table


@given(frames=st.lists(st.integers(1, 900), max_size=4), size=st.integers(8, 300))
@settings(max_examples=25, deadline=None)
def test_nothing_is_lost(frames, size):
    """Kept ends and no overlap: the windows of each sound are its samples, with its label and ids of their own."""
    sounds = [tone(n / 8000, 8000, seed=n) for n in frames]
    table = sounds_table(
        [stored(each, 8000, "FLAC") for each in sounds], label=pa.array(range(len(sounds)), pa.int64())
    )
    out = cut(table, seconds=size / 8000).to_pylist()
    assert len({row["row_id"] for row in out}) == len(out)
    for number, data in enumerate(table["audio"].to_pylist()):
        mine = [row for row in out if row["label"] == number]
        parts = [read_sound(row["audio"]).samples for row in mine]
        assert np.array_equal(np.concatenate(parts), read_sound(data).samples)
        assert [row["start_frame"] for row in mine] == list(range(0, frames[number], size))
        assert [row["frames"] for row in mine] == [len(part) for part in parts]


def test_ends_and_overlap():
    """An end is dropped, kept or padded; windows that overlap end where an earlier one holds the end already."""
    table = sounds_table([stored(tone(0.25, 8000), 8000)])  # 2,000 frames
    lengths = {tail: cut(table, seconds=0.1, tail=tail)["frames"].to_pylist() for tail in ("drop", "keep", "pad")}
    assert lengths == {"drop": [800, 800], "keep": [800, 800, 400], "pad": [800, 800, 800]}
    over = cut(table, seconds=0.1, every=0.05)
    assert over["start_frame"].to_pylist() == [0, 400, 800, 1200]
    assert over["row_id"].to_pylist()[1] == "clips/0.wav:0#400"


def test_every_sound_is_accounted_for():
    """A sound shorter than a window is marked, by the step and by its sieve, whatever its header says of its length."""
    table = sounds_table([stored(tone(n / 8000, 8000), 8000, "MP3" if n > 3000 else "FLAC") for n in (800, 799, 4000)])
    for seconds in (0.0999, 0.1, 0.3, 0.49, 0.5, 0.6):
        step = bind("audio_windows", {"seconds": seconds, "tail": "drop"})
        ran = run_steps(table, [step], Keys())
        whole = {row["row_id"].rpartition("#")[0] for row in ran.table.to_pylist()}
        assert set(ran.marked["row_id"].to_pylist()) == set(table["row_id"].to_pylist()) - whole
        assert set(ran.marked["reason"].to_pylist()) <= {"audio_no_window"}
        assert run_steps(table, [sieve_of(step)], Keys()).marked.equals(ran.marked)
    assert [sieve_of(bind("audio_windows", {"tail": tail})) for tail in ("keep", "pad")] == [None, None]


def test_a_sound_that_cannot_be_read():
    """The error names the row, and what to do."""
    with pytest.raises(StepError, match=r"clips/0\.wav:0") as caught:
        cut(sounds_table([b"nothing"]))
    assert "audio_check" in str(caught.value.fix)
