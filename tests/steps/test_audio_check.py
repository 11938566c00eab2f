"""audio_check: what stays can be used, what goes has its reason, and thresholds can be asked again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sounds import sounds_table, stored, tone

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.audio_check import SPEC


def test_every_reason():
    """Each fault by its name; the sound rows come out with their numbers, bytes untouched."""
    good = tone(0.2)
    broken = np.where(np.arange(len(good))[:, None] == 7, np.nan, good).astype(np.float32)
    cases = {
        None: [stored(good), stored(tone(0.2, 44100, channels=2), 44100, "FLAC")],
        "audio_empty": [None, b""],
        "not_audio": [b"no sound at all"],
        "audio_truncated": [stored(good)[:-100]],
        "audio_not_finite": [stored(broken, subtype="FLOAT"), stored(broken + np.inf, subtype="FLOAT")],
        "audio_silent": [stored(good * 0), stored(good * 1e-3)],
        "audio_clipped": [stored(np.clip(good * 9, -1, 1))],
        "audio_too_short": [stored(tone(0.05))],
        "audio_too_long": [stored(tone(0.6))],
    }
    sounds = [data for each in cases.values() for data in each]
    table = sounds_table(sounds)
    step = bind("audio_check", {"min_seconds": 0.1, "max_seconds": 0.5})
    ran = run_steps(table, [step], Keys())
    found = dict(zip(ran.marked["row_id"].to_pylist(), ran.marked["reason"].to_pylist(), strict=True))
    wanted = [reason for reason, each in cases.items() for _ in each]
    assert [found.get(row) for row in table["row_id"].to_pylist()] == wanted
    assert ran.table["audio"].to_pylist() == sounds[:2]
    numbers = ran.table.select(["sample_rate", "frames", "channels", "seconds"]).to_pylist()
    assert numbers[1] == {"sample_rate": 44100, "frames": 8820, "channels": 2, "seconds": 0.2}
    kept = ran.signals.to_pylist()[0]
    assert kept["audio_check.seconds"] == 0.2
    assert kept["audio_check.peak_db"] == pytest.approx(20 * np.log10(np.abs(good).max()), abs=1e-3)
    # Asked again of the stored measurements, other thresholds give what a run with them would.
    looser = SPEC.judge(ran.signals, bind("audio_check", {"min_peak_db": -120.0, "max_clipped": 1.0}).options)
    left = [row for row, why in zip(ran.signals["row_id"].to_pylist(), looser.to_pylist(), strict=True) if why]
    assert left == ["clips/8.wav:0"], "digital silence alone"


def test_hugging_face_layout():
    """A struct of bytes and path is read as the bytes."""
    data = stored(tone(0.05))
    column = pa.array([{"bytes": data, "path": "a.wav"}, None])
    table = pa.table({"row_id": ["a", "b"], "audio": column})
    ran = run_steps(table, [bind("audio_check")], Keys())
    assert ran.table["audio"].to_pylist() == [data]
    assert ran.marked["reason"].to_pylist() == ["audio_empty"]


def test_options_are_checked():
    """Containers that nobody knows, and bounds that contradict each other, are refused."""
    for wrong in (
        {"formats": ["wave"]},
        {"formats": []},
        {"min_seconds": 2.0, "max_seconds": 1.0},
        {"max_clipped": 2.0},
    ):
        with pytest.raises(ConfigError, match="audio_check"):
            bind("audio_check", wrong)
