"""Windows of sounds by the ids that the shards have: explained, and erased with their sounds."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import datapipe
from datapipe.dataset import verify_dataset
from datapipe.errors import DatasetError, InputError
from datapipe.preprocess import erase, explain
from datapipe.preprocess.sound_windows import sound_of

# The sounds of the tests of the steps.
_made = importlib.util.spec_from_file_location("sounds_to_cut", Path(__file__).parents[1] / "steps" / "sounds.py")
sounds_to_cut = importlib.util.module_from_spec(_made)
sys.modules["sounds_to_cut"] = sounds_to_cut
_made.loader.exec_module(sounds_to_cut)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three sounds, of 3, 1 and 2 windows, one of them named like a window of another, and one too short for any."""
    folder = tmp_path_factory.mktemp("windows") / "clips"
    folder.mkdir()
    rows = []
    for name, seconds in (("talk", 0.12), ("talk#640", 0.05), ("song", 0.09), ("click", 0.01)):
        data = sounds_to_cut.stored(sounds_to_cut.tone(seconds, seed=len(rows)), container="FLAC")
        (folder / f"{len(rows)}.flac").write_bytes(data)
        rows.append({"file_name": f"{len(rows)}.flac", "name": name})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def cut(clips, out, *, shuffled=False, columns=None):
    recipe = {
        "input": {"text_column": None, "media": "audio", "id_column": "name", "columns": ["*"]},
        "steps": ["audio_check", *["shuffle"] * shuffled, {"audio_windows": {"seconds": 0.04, "tail": "drop"}}],
        "output": {"columns": columns},
    }
    return datapipe.preprocess(clips, out, recipe, workers=0)


def ids(out):
    opened = datapipe.open_dataset(out, ["row_id"])
    return [row["row_id"] for row in opened.take(range(opened.num_rows)).to_pylist()]


@pytest.mark.parametrize("shuffled", [False, True])
def test_by_the_ids_that_users_see(clips, tmp_path, shuffled):
    """A window's id tells its sound, from when to when and its row; a sound's all of its windows; erased, all go."""
    out = tmp_path / "out"
    cut(clips, out, shuffled=shuffled)
    before = ids(out)
    window = explain(out, "song#640")
    assert (window.outcome, window.sound) == ("kept", "song")
    assert "a window of the sound song, from 0.040 s to 0.080 s (frames 640 to 1,280)" in str(window)
    assert [before[row.row] for row in window.where.rows] == ["song#640"]
    whole = explain(out, "talk")
    assert [each.row_id for each in whole.windows] == ["talk#0", "talk#640", "talk#1280"]
    assert [before[row.row] for row in whole.where.rows] == ["talk#0", "talk#640", "talk#1280"]
    # An id that is a sound's own and another's window: both are told.
    both = explain(out, "talk#640")
    assert [(each.sound, len(each.windows)) for each in (both, *both.same_id)] == [(None, 1), ("talk", 1)]
    none = explain(out, "click#0")
    assert (none.outcome, none.reason, none.sound) == ("dropped", "audio_no_window", "click")
    with pytest.raises(DatasetError, match="no window") as caught:
        explain(out, "song#641")
    assert "song#640" in str(caught.value.expected)
    with pytest.raises(DatasetError, match="no row has the id 'sing#0'"):
        explain(out, "sing#0")

    with pytest.raises(InputError, match=r"'song#640' of 'song'; nothing was erased") as caught:
        erase(out, ["talk", "song#640"])
    assert caught.value.fix == "datapipe erase DATASET song"
    assert ids(out) == before
    done = erase(out, ["talk"])
    assert (done.erased, done.rows, done.before) == (1, 3, 0)
    assert sorted(ids(out)) == ["song#0", "song#640", "talk#640#0"]
    assert not verify_dataset(out).faults
    assert erase(out, ["talk#1280"]).before == 1
    if shuffled:
        return
    assert cut(clips, out).dropped == {"audio_no_window": 1, "erased": 1}
    assert sorted(ids(out)) == ["song#0", "song#640", "talk#640#0"]


def test_rows_that_do_not_name_their_sounds(clips, tmp_path):
    """Without the column row_id nothing is said of windows, and nothing erased."""
    out = tmp_path / "out"
    cut(clips, out, columns=["audio"])
    assert "do not say of which sound" in explain(out, "song").where.remark
    with pytest.raises(datapipe.errors.PreprocessError, match="do not say of which sound"):
        erase(out, ["song"])


def test_what_is_a_windows_id():
    """An id, a hash sign and a number."""
    assert [sound_of(each) for each in ("a#1", "a#1#20", "a#", "a#1b", "a", "a#١")] == [
        "a",
        "a#1",
        None,
        None,
        None,
        None,
    ]
