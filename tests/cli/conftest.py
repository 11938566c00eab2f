"""Running the command as a user does: a process, its two streams and its exit code."""

import json
import subprocess
import sys
from dataclasses import dataclass

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


@pytest.fixture(scope="session")
def datapipe():
    """Call `datapipe ARGS…` in a fresh process."""

    def call(*args, cwd=None, timeout=240, env=None):
        done = subprocess.run(
            [sys.executable, "-m", "datapipe", *map(str, args)],
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
