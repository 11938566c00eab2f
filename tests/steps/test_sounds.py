"""Sounds: what the steps make of a row, to the last bit, in one padded array of the loader's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sounds import stored, tone

import datapipe
from datapipe.errors import ConfigError, DecodeError
from datapipe.steps import Keys, bind, run_steps

MEL = {"n_mels": 20, "hop": 200}
CHAIN = (("audio_decode", {"sample_rate": 16000}), ("augment_audio", {}), ("log_mel", MEL), ("spec_augment", {}))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Twelve sounds of several rates, lengths and containers, with `frames`."""
    folder = tmp_path_factory.mktemp("sounds")
    rates = [16000, 22050, 16000, 8000]
    shapes = [(0.05 + 0.02 * i, rates[i % 4], 1 + i % 2) for i in range(12)]
    kinds = ["WAV", "FLAC", "OGG"]
    data = [stored(tone(s, rate, channels=c, seed=i), rate, kinds[i % 3]) for i, (s, rate, c) in enumerate(shapes)]
    table = pa.table(
        {
            "row_id": [f"r{i}" for i in range(12)],
            "audio": pa.array(data, pa.large_binary()),
            "frames": pa.array([round(s * rate) for s, rate, _ in shapes], pa.int64()),
            "label": pa.array(range(12), pa.int64()),
        }
    )
    pq.write_table(table, folder / "a.parquet", row_group_size=5)
    return datapipe.open_dataset(str(folder)), table


def rows_of(dataset, transform, name, *, epoch=0, **options):
    options = {"prefetch": 0, "seed": 3, **options}
    found = {}
    with datapipe.DataLoader(dataset, 5, tail="partial", transform=transform, collate="numpy", **options) as loader:
        loader.set_epoch(epoch)
        for batch in loader:
            assert "audio" not in batch
            for i, row in enumerate(batch["row_id"]):
                found[row] = batch[name][i, : batch[f"{name}_lengths"][i]].copy()
                assert not batch[name][i, batch[f"{name}_lengths"][i] :].any(), "padded with zeros"
    return found


@pytest.mark.parametrize("options", [{}, {"num_threads": 3, "prefetch": 4}, {"bucket": datapipe.Bucket([1000, 2000])}])
def test_as_the_steps_make_it(dataset, options):
    """Offline, in a transform of steps, and here: the same bits, on any number of threads, in any batch."""
    data, table = dataset
    steps = [bind(name, given) for name, given in CHAIN]
    offline = run_steps(table, steps, Keys(seed=3, epoch=1)).table
    wanted = dict(zip(offline["row_id"].to_pylist(), offline["mel"].to_pylist(), strict=True))
    transform = datapipe.Sounds(augment=True, mel=MEL, mask=True)
    found = rows_of(data, transform, "mel", epoch=1, **options)
    assert found.keys() == wanted.keys()
    for row, mel in found.items():
        assert np.array_equal(mel, np.array(wanted[row], np.float32)), row
    other = rows_of(data, transform, "mel", epoch=2, **options)
    assert any(not np.array_equal(found[row], other[row]) for row in found)


def test_samples(dataset):
    """Without `mel` samples are delivered; what is as asked for is decoded where the batch lies."""
    data, table = dataset
    for augment in (None, {"noise_chance": 1.0}):
        steps = [bind("audio_decode", {"sample_rate": 16000})]
        steps += [bind("augment_audio", augment)] if augment else []
        wanted = run_steps(table, steps, Keys(seed=3)).table["samples"].to_pylist()
        found = rows_of(data, datapipe.Sounds(augment=augment), "samples")
        assert all(np.array_equal(found[f"r{i}"], np.array(row, np.float32)) for i, row in enumerate(wanted))


def test_a_sound_that_cannot_be_decoded(tmp_path):
    """The error names the row and the reason, whether the head or the samples are at fault."""
    flac = stored(tone(0.5), container="FLAC")
    wild = stored(np.full((9, 1), np.nan, np.float32), subtype="FLOAT")
    for bad in (b"nothing", None, flac[: len(flac) // 2], wild):
        table = pa.table({"row_id": ["x:0", "y:0"], "audio": pa.array([flac, bad], pa.large_binary())})
        pq.write_table(table, tmp_path / "a.parquet")
        loader = datapipe.DataLoader(
            datapipe.open_dataset(str(tmp_path)), 2, shuffle=False, transform=datapipe.Sounds(), prefetch=0
        )
        with pytest.raises(DecodeError, match="cannot be decoded") as caught:
            next(iter(loader))
        assert any("y:0" in note for note in caught.value.__notes__)


def test_options_are_checked():
    """Options of the steps are checked as the steps' own; a mask wants a spectrogram, and the rate is one."""
    with pytest.raises(ConfigError, match="n_mel"):
        datapipe.Sounds(mel={"n_mel": 3})
    with pytest.raises(ConfigError, match="mask"):
        datapipe.Sounds(mask=True)
    with pytest.raises(ConfigError, match="8000"):
        datapipe.Sounds(mel={"sample_rate": 8000})
    assert datapipe.Sounds(sample_rate=8000, mel=True).mel.sample_rate == 8000
    with pytest.raises(ConfigError, match="no column 'audio'"):
        datapipe.Sounds()({"text": ["a"]}, Keys())
