"""Running the command as a user does: its two streams and its exit code, from a process where that matters."""

import io
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from unittest import mock

import pytest


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output as the one JSON object it must be."""
        return json.loads(self.out)


READING = {
    "compact", "compare", "describe", "erase", "expire", "explain", "plan", "recipe", "report", "retune", "rollback",
    "snapshots", "steps", "trace", "verify", "vocabulary",
}  # fmt: skip
"""Commands that start no process of their own: they run in the tests', as starting one costs more than they do."""


def _stays(args):
    """Whether a command starts no process of its own, and runs no code of the user's, which may print."""
    inline = "--dry-run" in args or ("--workers", "0") in zip(args, args[1:], strict=False)
    return args[0] in READING or (args[0] == "preprocess" and inline and "--recipe" not in args)


def _here(args):
    """The command in this process, its streams caught as file descriptors: what C code writes is part of them."""
    from datapipe.cli import console, main

    files = [tempfile.TemporaryFile() for _ in ("out", "err")]  # noqa: SIM115  (closed below)
    kept = [os.dup(1), os.dup(2)]
    streams = [io.TextIOWrapper(os.fdopen(os.dup(file.fileno()), "wb"), encoding="utf-8") for file in files]
    try:
        with (
            mock.patch.object(sys, "argv", ["datapipe", *args]),
            mock.patch.object(sys, "stdout", streams[0]),
            mock.patch.object(sys, "stderr", streams[1]),
            mock.patch.multiple(console, debug=False, as_json=False),
        ):
            os.dup2(files[0].fileno(), 1)
            os.dup2(files[1].fileno(), 2)
            try:
                main.run()
            except SystemExit as left:
                code = left.code
            finally:
                for stream in streams:
                    stream.flush()
    finally:
        for place, was in enumerate(kept, 1):
            os.dup2(was, place)
            os.close(was)
    texts = []
    for file, stream in zip(files, streams, strict=True):
        stream.close()
        file.seek(0)
        with file:
            texts.append(file.read().decode())
    return Ran(code, *texts)


@pytest.fixture(scope="session")
def datapipe():
    """Call `datapipe ARGS…`: in a fresh process, unless it starts none of its own, or is `refused` before it does."""

    def call(*args, cwd=None, timeout=240, env=None, fresh=False, refused=False):
        args = list(map(str, args))
        if (refused or _stays(args)) and not fresh and cwd is None and env is None:
            return _here(args)
        done = subprocess.run(
            [sys.executable, "-m", "datapipe", *args],
            capture_output=True, text=True, cwd=cwd, timeout=timeout, env=env, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def token_folder(tmp_path, monkeypatch):
    """Call with a run's YAML: it becomes run.yaml in the working folder, beside `tokens`, 32 packed rows of 16."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()

    def make(run):
        tokens = np.random.default_rng(0).integers(0, 31, 32 * 16, dtype=np.uint16)
        column = pa.FixedSizeListArray.from_arrays(pa.array(tokens), 16)
        (tmp_path / "tokens").mkdir()
        pq.write_table(pa.table({"tokens": column}), tmp_path / "tokens" / "a.parquet", row_group_size=8)
        (tmp_path / "run.yaml").write_text(run)
        monkeypatch.chdir(tmp_path)
        torch.set_num_threads(1)
        return tmp_path

    yield make
    torch.set_num_threads(before)


WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "and",
    "that",
    "lazy",
    "dog",
    "have",
    "been",
    "to",
    "the",
    "end",
    "of",
    "a",
    "long",
    "road",
    "with",
    "nothing",
    "to",
    "be",
    "said",
    "about",
    "it",
]


@pytest.fixture(scope="session")
def docs(tmp_path_factory):
    """A folder of 60 text documents that pass the quality rules, one exact copy, and one that is too short."""
    folder = tmp_path_factory.mktemp("docs")
    for i in range(60):
        words = [WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(200)]
        (folder / f"{i:03d}.txt").write_text(f"document number {i}. " + " ".join(words) + ".\n")
    (folder / "copy.txt").write_text((folder / "000.txt").read_text())
    (folder / "short.txt").write_text("too short\n")
    return folder


SMALL = ["--set", "vocabulary.size=300", "--set", "pack.seq_len=64", "--workers", "0"]


@pytest.fixture(scope="session")
def small(datapipe, docs, tmp_path_factory):
    """That folder preprocessed: (dataset folder, the command's result)."""
    out = tmp_path_factory.mktemp("small") / "dataset"
    return out, datapipe("preprocess", docs, out, *SMALL, "--json")
