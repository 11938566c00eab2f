"""audio_convert: what was asked for, and nothing else; online the same samples."""

from __future__ import annotations

import numpy as np
from sounds import sounds_table, stored, tone

from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.audio_reading import read_sound

ASKED = {"sample_rate": 16000, "mono": True, "trim_db": 40.0, "loudness": -23.0}


def test_asked_and_unasked():
    """A sound that is as asked keeps its bytes; another is of the rate, in one channel, and its numbers are true."""
    same = stored(tone(0.1), container="OGG")
    other = stored(tone(0.1, 44100, channels=2), 44100)
    table = sounds_table([same, other, same[:200], stored(tone(0.1, 44100) * 0, 44100)])
    ran = run_steps(table, [bind("audio_convert", {"sample_rate": 16000, "mono": True})], Keys())
    assert ran.marked["reason"].to_pylist() == ["audio_broken"], "nothing of it can be decoded"
    first, second, third = ran.table.to_pylist()
    assert first["audio"] == same
    assert second["audio"][:4] == b"fLaC"
    assert (second["sample_rate"], second["frames"], second["channels"], second["seconds"]) == (16000, 1600, 1, 0.1)
    assert third["frames"] == 1600
    trimmed = run_steps(table, [bind("audio_convert", ASKED)], Keys())
    assert trimmed.marked["reason"].to_pylist() == ["audio_broken", "audio_silent"]
    again = run_steps(table, [bind("audio_convert", {"reencode": True, "format": "wav"})], Keys()).table
    assert [data[:4] for data in again["audio"].to_pylist()] == [b"RIFF"] * 3
    bare = run_steps(table, [bind("audio_convert")], Keys()).table
    assert bare["audio"].to_pylist() == [table["audio"][row].as_py() for row in (0, 1, 3)]


def test_online_as_offline():
    """Decoding with the same options online gives what was stored, but for the rounding to 16 bits."""
    sounds = [stored(tone(0.5, 22050, channels=2, seed=3), 22050, "FLAC"), stored(tone(0.7, 8000), 8000)]
    offline = run_steps(sounds_table(sounds), [bind("audio_convert", ASKED)], Keys()).table
    online = run_steps(sounds_table(sounds), [bind("audio_decode", ASKED)], Keys()).table
    for stored_row, row in zip(offline.to_pylist(), online.to_pylist(), strict=True):
        kept = read_sound(stored_row["audio"]).samples[:, 0]
        assert len(kept) == row["frames"] == stored_row["frames"]
        assert np.abs(kept - np.array(row["samples"], np.float32)).max() <= 2**-16 + 1e-7


def test_decode_leaves_what_was_asked():
    """Channels take turns where they are not mixed; the bytes stay if they shall; a broken sound has its reason."""
    pair = tone(0.01, channels=2)
    table = sounds_table([stored(pair, subtype="FLOAT"), b"nothing"])
    ran = run_steps(table, [bind("audio_decode", {"mono": False, "keep_audio": True})], Keys())
    assert ran.marked["reason"].to_pylist() == ["not_audio"]
    row = ran.table.to_pylist()[0]
    assert np.array_equal(np.array(row["samples"], np.float32).reshape(-1, 2), pair)
    assert (row["frames"], row["channels"]) == (160, 2)
    assert row["audio"] == table["audio"][0].as_py()
