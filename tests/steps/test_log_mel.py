"""log_mel: librosa's numbers, and of each row the same bits whatever lies beside it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps
from datapipe.steps.log_mel import LogMelOptions, spectrogram

LIBROSA = {
    "slaney": [
        [
            3.0401,
            1.9006,
            0.020115,
            0.0036088,
            0.00099385,
            0.00035466,
            0.00034372,
            0.015393,
            0.086738,
            0.0010916,
            0.00013497,
            5.3478e-05,
        ],
        [
            3.7575,
            6.5662,
            0.013585,
            4.2002e-05,
            1.056e-05,
            4.3502e-06,
            3.9431e-06,
            0.028238,
            0.17978,
            8.2943e-06,
            1.1376e-06,
            4.4603e-07,
        ],
        [
            0.76493,
            8.9945,
            0.58405,
            1.3757e-05,
            2.1207e-07,
            1.5516e-08,
            1.5834e-09,
            0.028242,
            0.1799,
            3.7766e-12,
            5.9002e-13,
            1.0347e-13,
        ],
        [
            0.017974,
            6.9224,
            3.4029,
            0.00024602,
            5.9134e-07,
            3.0182e-08,
            2.6227e-09,
            0.028242,
            0.1799,
            5.2104e-12,
            7.9069e-13,
            1.378e-13,
        ],
        [
            0.00025559,
            3.4092,
            6.9162,
            0.017166,
            2.2338e-06,
            7.4681e-08,
            6.5699e-09,
            0.028242,
            0.1799,
            2.714e-11,
            5.1364e-12,
            7.8524e-13,
        ],
        [
            0.014011,
            0.65321,
            8.5831,
            0.64599,
            0.0076815,
            0.0020093,
            0.00088068,
            0.028212,
            0.17266,
            0.00019474,
            2.7149e-05,
            1.4819e-05,
        ],
    ],
    "htk": [
        [52.342, 64.625, 16.774, 7.2916, 4.3259, 2.908, 2.0949, 3.5139, 18.868, 1.0409, 0.90548, 0.84051],
        [13.826, 82.474, 14.159, 0.6842, 0.41537, 0.27869, 0.2004, 2.1219, 18.132, 0.099402, 0.086455, 0.080244],
        [
            1.6063,
            61.162,
            45.019,
            0.51328,
            0.029101,
            0.0073495,
            0.002627,
            1.9728,
            18.029,
            0.000259,
            0.00013715,
            7.6893e-05,
        ],
        [
            0.28364,
            26.285,
            78.18,
            3.5832,
            0.050809,
            0.010146,
            0.0033475,
            1.9731,
            18.029,
            0.00030396,
            0.00015887,
            8.8601e-05,
        ],
        [
            0.08325,
            5.0178,
            83.409,
            19.769,
            0.10866,
            0.015934,
            0.0053699,
            1.9741,
            18.029,
            0.00069755,
            0.00040343,
            0.00022441,
        ],
        [5.9698, 9.2281, 62.563, 59.082, 10.235, 5.1833, 3.6984, 5.9935, 21.578, 0.46315, 0.47273, 0.55356],
    ],
}
"""librosa 0.11.0, feature.melspectrogram(sr=16000, n_fft=400, hop_length=160, n_mels=12), of the sound below: power 2,
constant padding; and with htk=True, norm=None, power=1, reflected padding, 50 to 7,000 Hz."""
SAME = {
    "slaney": {},
    "htk": {"scale": "htk", "norm": "none", "power": 1, "pad": "reflect", "f_min": 50.0, "f_max": 7000.0},
}


def chirp():
    time = np.arange(900) / 16000
    wave = 0.4 * np.sin(2 * np.pi * (300 + 4000 * time) * time) + 0.1 * np.cos(2 * np.pi * 3000 * time)
    return wave.astype(np.float32)


def table_of(rows, rate=16000):
    return pa.table(
        {
            "row_id": pa.array([f"r{i}" for i in range(len(rows))], pa.string()),
            "samples": pa.array(rows, pa.large_list(pa.float32())),
            "sample_rate": pa.array([rate] * len(rows), pa.int32()),
        }
    )


@pytest.mark.parametrize("name", list(LIBROSA))
def test_against_librosa(name):
    """Power and magnitude, both scales, both paddings: to a millionth of the largest number."""
    options = LogMelOptions(n_mels=12, log="none", **SAME[name])
    out = np.empty((6, 12), np.float32)
    spectrogram(chirp(), options, out)
    wanted = np.array(LIBROSA[name])
    assert np.allclose(out, wanted, rtol=1e-4, atol=1e-6 * wanted.max())


@pytest.mark.parametrize("n_fft", [2, 31, 64, 65])
def test_every_frame_is_written(n_fft):
    """Whatever the lengths of sound, window and hop: no frame is left as the memory was."""
    for samples in (0, 1, 15, 16, 160):
        for hop in (1, 16):
            out = np.full((1 + samples // hop, 4), np.nan, np.float32)
            options = LogMelOptions(sample_rate=8000, n_fft=n_fft, hop=hop, n_mels=4)
            spectrogram(np.ones(samples, np.float32), options, out)
            assert np.isfinite(out).all()


def test_logarithms():
    """Each is of the same power, and the floor holds."""
    out = {}
    for log in ("none", "ln", "log10", "db"):
        out[log] = np.empty((6, 12), np.float32)
        spectrogram(chirp(), LogMelOptions(n_mels=12, log=log, floor=1e-5), out[log])
    power = np.maximum(out["none"], 1e-5)
    assert np.allclose(out["ln"], np.log(power), atol=1e-5)
    assert np.allclose(out["log10"], np.log10(power), atol=1e-5)
    assert np.allclose(out["db"], 10 * np.log10(power), atol=1e-4)


def test_each_row_for_itself():
    """In any batch, long or short, a row has the bits that it has alone; a null row has no frames."""
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal(n).astype(np.float32) for n in (0, 1, 159, 160, 400, 1234, 70_000)]
    step = bind("log_mel", {"hop": 100})
    whole = run_steps(table_of([*rows, None]), [step], Keys()).table["mel"]
    assert [len(mel) for mel in whole.to_pylist()] == [1 + len(row) // 100 for row in rows] + [0]
    for number, row in enumerate(rows):
        assert run_steps(table_of([row]), [step], Keys()).table["mel"].equals(whole.slice(number, 1))
    rest = run_steps(table_of([*rows, None]).slice(3), [step], Keys()).table["mel"]
    assert rest.equals(whole.slice(3))
    assert rest.type == pa.large_list(pa.list_(pa.float32(), 80))


def test_refused():
    """Another rate, two channels, filters that end before they begin: each names the option that helps."""
    with pytest.raises(ConfigError, match="8000 Hz") as caught:
        run_steps(table_of([[0.0]], rate=8000), [bind("log_mel")], Keys())
    assert "audio_decode" in str(caught.value.fix)
    pair = table_of([[0.0, 1.0]]).append_column("channels", pa.array([2], pa.int32()))
    with pytest.raises(ConfigError, match="2 channels"):
        run_steps(pair, [bind("log_mel")], Keys())
    with pytest.raises(ConfigError, match="f_max"):
        bind("log_mel", {"f_min": 4000.0, "f_max": 3000.0})
