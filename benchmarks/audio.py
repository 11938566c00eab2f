"""Sound: decoding by steps, loader and preprocess against bare soundfile; log-mel spectrograms against other libraries.

    python benchmarks/audio.py [--sounds 800] [--rounds 5] [--threads 2] [--only decode,mel,preprocess]
    python benchmarks/audio.py --peer librosa=PYTHON --peer torchaudio=PYTHON    interpreters that have these

What enters: sounds of ten seconds made from a seed (chords and noise, 16 kHz mono, as many of wav, flac, ogg and mp3;
or --formats flac). What leaves: seconds of sound for a second of work, the median of rounds in which all contenders
take turns, and its ratio to the bound: `--threads` threads that only decode, each sound with one call of soundfile.
Checked: each contender gives as many samples as the bound, and the peers' spectrograms are ours within 1e-4 of the
largest value. Preprocessing (recipe `audio`, whole: workers started, files read, shards written, published) is timed
against the same decoding of the files on disk; with few sounds it is its start that is measured.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

RATE, SECONDS = 16000, 10
FORMATS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", None)}
MEL = {"n_fft": 400, "hop": 160, "n_mels": 80}
PEER = Path(__file__).with_name("audio_peer.py")


def make(sounds: int, formats: list[str]) -> list[tuple[str, bytes]]:
    """(suffix, file) of each sound. Twelve are encoded of each format and used again, each with an end of its own."""
    import soundfile

    rng = np.random.default_rng(0)
    time_ = np.arange(RATE * SECONDS) / RATE
    made: dict[str, list[bytes]] = {name: [] for name in formats}
    for name, _ in itertools.product(formats, range(12)):
        wave = sum(rng.uniform(0.02, 0.1) * np.sin(2 * np.pi * hz * time_ + rng.uniform(0, 6))
                   for hz in rng.uniform(80, 5000, 12))  # fmt: skip
        wave = wave * (0.6 + 0.4 * np.sin(time_ * rng.uniform(1, 9))) + 0.01 * rng.standard_normal(len(time_))
        out = io.BytesIO()
        kind, subtype = FORMATS[name]
        soundfile.write(out, wave.astype(np.float32), RATE, format=kind, subtype=subtype)
        made[name].append(out.getvalue())
    order = [formats[i % len(formats)] for i in range(sounds)]
    return [(name, made[name][i // len(formats) % 12]) for i, name in enumerate(order)]


def decoded(data: bytes) -> int:
    import soundfile

    with soundfile.SoundFile(io.BytesIO(data)) as file:
        return len(file.read(dtype="float32"))


def on_threads(threads: int, jobs: list[Any], work: Callable[[Any], int]) -> int:
    """The sum of what the jobs give, each done by the next free thread."""
    todo = iter(jobs)
    lock = threading.Lock()
    sums = [0] * threads

    def run(me: int) -> None:
        while True:
            with lock:
                job = next(todo, None)
            if job is None:
                return
            sums[me] += work(job)

    crew = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for each in crew:
        each.start()
    for each in crew:
        each.join()
    return sum(sums)


def decode_part(sounds: list[tuple[str, bytes]], folder: Path, threads: int) -> dict[str, Callable[[], int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from datapipe import DataLoader, Sounds, open_dataset
    from datapipe.steps import Keys, bind, run_steps, steps_transform

    files = [data for _, data in sounds]
    ids = [f"{i}.{name}:0" for i, (name, _) in enumerate(sounds)]
    table = pa.table({"row_id": ids, "audio": pa.array(files, pa.large_binary())})
    frames = pa.array([RATE * SECONDS] * len(files), pa.int64())
    (folder / "ds").mkdir()
    stored = table.append_column("frames", frames)
    # Without a dictionary, as shards are written: of sounds used again one would hide the size of what is read.
    pq.write_table(stored, folder / "ds" / "0.parquet", row_group_size=64, compression="none", use_dictionary=False)
    tables = [table.slice(at, 16) for at in range(0, len(files), 16)]
    check, decode = bind("audio_check"), bind("audio_decode")

    def loaded(transform: Any) -> int:
        data = open_dataset(str(folder / "ds"))
        total = 0
        with DataLoader(data, 16, tail="partial", transform=transform, collate="numpy", num_threads=threads,
                        autotune=False) as loader:  # fmt: skip
            for batch in loader:
                total += int(batch["samples_lengths"].sum())
        return total

    def steps(step: Any, name: str) -> Callable[[], int]:
        def one(part: Any) -> int:
            return int(np.sum(run_steps(part, [step], Keys()).table[name].to_numpy()))

        return lambda: on_threads(threads, tables, one)

    return {
        f"soundfile, {threads} threads": lambda: on_threads(threads, files, decoded),
        "step audio_check": steps(check, "frames"),
        "step audio_decode": steps(decode, "frames"),
        "DataLoader, Sounds(), padded": lambda: loaded(Sounds()),
        "DataLoader, step audio_decode": lambda: loaded(steps_transform([decode])),
    }


def preprocess_part(sounds: list[tuple[str, bytes]], folder: Path, threads: int) -> dict[str, Callable[[], int]]:
    import datapipe

    source = folder / "sounds"
    source.mkdir()
    # An end of its own (a chunk that no reader knows, a byte of padding): equal files would be one.
    for i, (name, data) in enumerate(sounds):
        (source / f"{i:06}.{name}").write_bytes(data + (b"junk\4\0\0\0%04d" % i if name == "wav" else b""))
    files = sorted(source.iterdir())
    numbers = itertools.count()

    def whole() -> int:
        out = folder / f"out{next(numbers)}"
        overrides = {"exact_duplicates.columns": ["path"]}
        datapipe.preprocess(str(source), str(out), recipe="audio", workers=threads, overrides=overrides)
        total = int(
            datapipe.open_dataset(str(out), columns=["frames"]).take(range(len(files)))["frames"].to_numpy().sum()
        )
        shutil.rmtree(out)
        return total

    def bare() -> int:
        return on_threads(threads, files, lambda path: decoded(path.read_bytes()))

    return {f"soundfile, {threads} threads, from files": bare, "preprocess --recipe audio": whole}


class Peer:
    """A library in an interpreter of its own, asked one round at a time."""

    def __init__(self, name: str, python: str, samples: np.ndarray, folder: Path) -> None:
        np.save(folder / "samples.npy", samples)
        environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")}
        self.process = subprocess.Popen(
            [python, str(PEER), name, str(folder / "samples.npy")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.told = self._answer()

    def ask(self, repeats: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{repeats}\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer ended: {self.process.args}")
        return dict(json.loads(line))


def mel_part(peers: dict[str, str], folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of a round of twenty spectrograms on one thread."""
    from datapipe.steps.log_mel import LogMelOptions, spectrogram

    samples = np.random.default_rng(0).standard_normal(RATE * SECONDS).astype(np.float32)
    options = LogMelOptions(**MEL)
    out = np.empty((1 + len(samples) // MEL["hop"], MEL["n_mels"]), np.float32)
    spectrogram(samples, options, out)
    found = {name: Peer(name, python, samples, folder) for name, python in peers.items()}
    for name, peer in found.items():
        theirs = np.array(peer.told["mel"])
        far = np.abs(theirs - out).max()
        if far > 1e-4 * np.abs(out).max():
            raise SystemExit(f"{name} gives other numbers: {far}")
    times: dict[str, list[float]] = {name: [] for name in ("datapipe, step log_mel", *found)}
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(20):
            spectrogram(samples, options, out)
        times["datapipe, step log_mel"].append(time.perf_counter() - started)
        for name, peer in found.items():
            times[name].append(peer.ask(20))
    for peer in found.values():
        peer.process.kill()
    return times


def turns(contenders: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; they take turns, each once unmeasured before."""
    counts = {name: run() for name, run in contenders.items()}
    if len(set(counts.values())) > 1:
        raise SystemExit(f"not the same samples: {counts}")
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            contenders[name]()
            times[name].append(time.perf_counter() - started)
    return times


def show(title: str, seconds: float, times: dict[str, list[float]], bound: str | None) -> None:
    """A Markdown table; ratios are medians of the ratios of a round to the bound's in the same round."""
    bound = bound or next(iter(times))
    print(f"\n{title}\n\n| contender | s of sound a s (median) | least to most | of {bound} |\n|---|---:|---:|---:|")
    for name, each in times.items():
        speed = sorted(seconds / t for t in each)
        ratio = statistics.median(b / t for b, t in zip(times[bound], each, strict=True))
        print(f"| {name} | {statistics.median(speed):,.0f} | {speed[0]:,.0f} to {speed[-1]:,.0f} | {ratio:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--formats", default="wav,flac,ogg,mp3")
    parser.add_argument("--only", default="decode,mel,preprocess")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    given = parser.parse_args()
    import soundfile

    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
          f"libsndfile {soundfile.__libsndfile_version__}; {given.sounds} sounds of {SECONDS} s, {given.formats}; "
          f"median of {given.rounds}, taken in turns.")  # fmt: skip
    sounds = make(given.sounds, given.formats.split(","))
    parts = given.only.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whole = given.sounds * SECONDS
        if "decode" in parts:
            show("Decoding, from memory:", whole, turns(decode_part(sounds, folder, given.threads), given.rounds), None)
        if "mel" in parts:
            peers = dict(each.split("=", 1) for each in given.peer)
            times = mel_part(peers, folder, given.rounds)
            show(f"Log-mel spectrograms, one thread, {MEL}:", 20 * SECONDS, times, list(times)[-1])
        if "preprocess" in parts:
            times = turns(preprocess_part(sounds, folder, given.threads), given.rounds)
            show("Preprocessing a folder:", whole, times, None)


if __name__ == "__main__":
    sys.exit(main())
