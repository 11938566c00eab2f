"""The recipe audio, from a folder, a tar and Parquet to shards and a training step, every sound accounted for."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.preprocess import explain

# The sounds of the tests of the steps.
_made = importlib.util.spec_from_file_location("made_sounds", Path(__file__).parents[1] / "steps" / "sounds.py")
made_sounds = importlib.util.module_from_spec(_made)
sys.modules["made_sounds"] = made_sounds
_made.loader.exec_module(made_sounds)
stored, tone = made_sounds.stored, made_sounds.tone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes in four formats, three rates, one and two channels; a copy, and one sound of each defect."""
    root = tmp_path_factory.mktemp("in") / "sounds"
    kinds = [("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG"), ("mp3", "MP3")]
    for label, hz in (("low", 220), ("high", 1800)):
        (root / label).mkdir(parents=True)
        for i in range(8):
            rate = [16000, 22050, 44100][i % 3]
            samples = tone(0.1 + 0.03 * i, rate, hz=hz, seed=i, channels=1 + i % 2)
            suffix, container = kinds[i % 4]
            (root / label / f"{i}.{suffix}").write_bytes(stored(samples, rate, container))
    (root / "low" / "copy.flac").write_bytes((root / "low" / "1.flac").read_bytes())
    (root / "low" / "cut.flac").write_bytes((root / "low" / "1.flac").read_bytes()[:2000])
    (root / "low" / "page.wav").write_bytes(b"<html>")
    (root / "low" / "none.ogg").write_bytes(b"")
    (root / "low" / "silence.wav").write_bytes(stored(tone(0.1) * 0))
    return root


def test_a_folder_to_a_training_step(folder, tmp_path):
    """Counted reasons; bytes as they were; asked for, one rate and channel; then batches of near lengths and a step."""
    summary = datapipe.preprocess(str(folder), str(tmp_path / "plain"), recipe="audio", workers=0)
    assert summary.quarantined == {"audio_truncated": 1, "not_audio": 1, "audio_empty": 1}
    assert summary.dropped == {"audio_silent": 1}
    assert (summary.documents_in, summary.documents_out, summary.duplicates) == (21, 16, 1)
    plain = datapipe.open_dataset(str(tmp_path / "plain"))
    for row in plain.take(range(16)).to_pylist():
        assert row["audio"] == (folder / row["path"]).read_bytes()
        assert row["label"] == row["path"].split("/")[0]
    assert "audio_truncated" in str(explain(tmp_path / "plain", "sounds/low/cut.flac:0"))

    asked = {"audio_convert.sample_rate": 16000, "audio_convert.mono": True}
    datapipe.preprocess(str(folder), str(tmp_path / "speech"), recipe="audio", workers=0, overrides=asked)
    speech = datapipe.open_dataset(str(tmp_path / "speech"), columns=["row_id", "audio", "frames", "label"])
    rows = datapipe.open_dataset(str(tmp_path / "speech")).take(range(16)).to_pylist()
    assert {(row["sample_rate"], row["channels"]) for row in rows} == {(16000, 1)}

    loader = datapipe.DataLoader(
        speech, 4, seed=1, bucket=datapipe.Bucket([2500, 4000]), dtypes={"label": ["high", "low"]}, prefetch=0,
        transform=datapipe.Sounds(augment=True, mel={"n_mels": 16}, mask={"band_width": 4}),
    )  # fmt: skip
    import torch

    from datapipe.train import Supervised, TrainConfig, train

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(16, 2)

        def forward(self, mel, mel_lengths):
            return self.head(mel.sum(1) / mel_lengths[:, None])

    inputs = {"mel": "mel", "mel_lengths": "mel_lengths"}
    with loader:
        done = train(
            TrainConfig(steps=2, device="cpu"), loader, out=tmp_path / "run",
            model=lambda: Supervised(Net(), inputs=inputs, targets="label"),
        )  # fmt: skip
    assert done.step == 2


def test_transcripts(tmp_path):
    """Texts beside the sounds, in a metadata.csv, a tar or Parquet, stay with their sounds; so do windows' labels."""
    sounds = [stored(tone(0.1, seed=i), container="FLAC") for i in range(3)]
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, data in enumerate(sounds):
        (folder / f"{i}.flac").write_bytes(data)
    (folder / "metadata.csv").write_text("file_name,transcription\n0.flac,zero\n1.flac,one\n2.flac,two\n")
    with tarfile.open(tmp_path / "pairs.tar", "w") as tar:
        for i, data in enumerate(sounds):
            for name, content in ((f"{i}.flac", data), (f"{i}.txt", f"text {i}".encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    structs = [{"bytes": data, "path": f"{i}.flac"} for i, data in enumerate(sounds)]
    pq.write_table(pa.table({"audio": structs, "text": ["a", "b", "c"]}), tmp_path / "hf.parquet")
    for source, column, texts in (
        (folder, "transcription", ["zero", "one", "two"]),
        (tmp_path / "pairs.tar", "text", ["text 0", "text 1", "text 2"]),
        (tmp_path / "hf.parquet", "text", ["a", "b", "c"]),
    ):
        out = tmp_path / f"out-{source.name}"
        datapipe.preprocess(str(source), str(out), recipe="audio", workers=0)
        rows = datapipe.open_dataset(str(out)).take(range(3)).to_pylist()
        assert {row["audio"]: row[column] for row in rows} == dict(zip(sounds, texts, strict=True))
    recipe = tmp_path / "windows.yaml"
    recipe.write_text(
        "name: windows\ninput: {text_column: null, media: audio, columns: ['*']}\n"
        "steps: [audio_check, {audio_windows: {seconds: 0.04}}]\n"
    )
    datapipe.preprocess(str(folder), str(tmp_path / "windows"), recipe=str(recipe), workers=0)
    rows = datapipe.open_dataset(str(tmp_path / "windows")).take(range(9)).to_pylist()
    assert [(row["row_id"], row["frames"], row["transcription"]) for row in rows[:4]] == [
        ("clips/0.flac:0#0", 640, "zero"),
        ("clips/0.flac:0#640", 640, "zero"),
        ("clips/0.flac:0#1280", 320, "zero"),
        ("clips/1.flac:0#0", 640, "one"),
    ]


@pytest.mark.parametrize("shuffled", [False, True])
def test_sounds_without_a_window_are_dropped_with_a_reason(tmp_path, shuffled):
    """Of a sound shorter than a window no row is made: the ledger and explain have its reason."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, seconds in enumerate((0.1, 0.02, 0.03)):
        (folder / f"{i}.flac").write_bytes(stored(tone(seconds, seed=i), container="FLAC"))
    recipe = {
        "input": {"text_column": None, "media": "audio"},
        "steps": ["audio_check", *["shuffle"] * shuffled, {"audio_windows": {"seconds": 0.04, "tail": "drop"}}],
    }
    summary = datapipe.preprocess(str(folder), str(tmp_path / "out"), recipe, workers=0)
    assert (summary.rows, summary.documents_out, summary.dropped) == (2, 1, {"audio_no_window": 2})
    assert (
        sum(
            entry.dropped.get("audio_no_window", 0) for entry in datapipe.open_dataset(tmp_path / "out").manifest.ledger
        )
        == 2
    )
    gone = explain(tmp_path / "out", "clips/1.flac:0")
    assert (gone.outcome, gone.step, gone.reason) == ("dropped", "audio_windows", "audio_no_window")
