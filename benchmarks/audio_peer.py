"""Log-mel spectrograms by another library, in its interpreter: `python audio_peer.py librosa|torchaudio SAMPLES.npy`.

What enters: samples (16 kHz, float32), and on standard input how often to transform them. What leaves: first the
spectrogram [frames, 80] as JSON, then the seconds of each request. One thread; 400 points every 160, power 2, Slaney's
scale and norm, zeros beyond the ends, natural logarithm of at least 1e-10.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def librosa_mel():
    import librosa

    def run(samples):
        power = librosa.feature.melspectrogram(y=samples, sr=16000, n_fft=400, hop_length=160, n_mels=80)
        return np.log(np.maximum(power, 1e-10))

    return run, lambda samples: samples


def torchaudio_mel():
    import torch
    import torchaudio

    torch.set_num_threads(1)
    transform = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=400, hop_length=160, n_mels=80, norm="slaney", mel_scale="slaney", pad_mode="constant"
    )

    def run(samples):
        with torch.inference_mode():
            return torch.log(torch.clamp(transform(samples), min=1e-10))

    return run, torch.from_numpy


def main() -> None:
    run, enter = {"librosa": librosa_mel, "torchaudio": torchaudio_mel}[sys.argv[1]]()
    samples = enter(np.load(sys.argv[2]))
    print(json.dumps({"mel": np.asarray(run(samples)).T.tolist()}), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            run(samples)
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
