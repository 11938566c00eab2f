"""Each fuzz target reads its own seeds, bears some altered ones, and finds a fault that is put in its way."""

import importlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from datapipe.errors import DatapipeError

FOLDER = Path(__file__).parents[2] / "benchmarks" / "fuzz"
sys.path.insert(0, str(FOLDER))
targets = importlib.import_module("target")
sys.path.remove(str(FOLDER))

REFUSED = {"trace": {2}}  # a bomb
SLOW = {"profile", "html", "charset", "tokenizer", "snapshots", "manifest", "state", "recipe"}
"""Of these fewer inputs: pages are drawn, processes started, datasets verified."""


@pytest.fixture(autouse=True)
def _modules(monkeypatch, tmp_path_factory):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "run_index" else ()) for name in targets.MODULES]
)
def test_a_target_reads_its_seeds_and_bears_others(name):
    """Seeds are read, and what is made of them is read or refused by an error of ours."""
    target = targets.find(name)
    seeds = target.seeds()
    for place, seed in enumerate(seeds):
        if place in REFUSED.get(name, ()):
            with pytest.raises(DatapipeError):
                target.check(seed)
        elif place < 4:
            target.check(seed)
    chance = random.Random(7)
    for _ in range(2 if name in SLOW else 12):
        try:
            target.check(target.mutate(chance.choice(seeds), chance))
        except DatapipeError:
            continue


def test_mutations_are_a_function_of_the_generator():
    """The same generator, the same input: a finding can be made again."""
    mutate = targets.find("jsonl").mutate
    seed = targets.find("jsonl").seeds()[0]
    made = [[mutate(seed, random.Random(n)) for n in range(20)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 10


BAD = """
import os
import time

from target import Target


def check(data):
    if b"raise" in data:
        raise KeyError("not one of ours")
    if b"die" in data:
        os.abort()


{name} = Target(seeds=lambda: [b"fine", b"{word}"], check=check)
"""


@pytest.mark.parametrize(("word", "finding"), [("raise", "KeyError-"), ("die", "died-6-")])
def test_what_a_target_must_not_do_is_found_and_kept(tmp_path, word, finding):
    """Another error, and the death of the process: the input is kept, the exit code says so."""
    for file in FOLDER.glob("*.py"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "bad_targets.py").write_text(BAD.format(name="BAD", word=word))
    text = (tmp_path / "target.py").read_text()
    (tmp_path / "target.py").write_text(
        text.replace("_HELD: Final = {", '_HELD: Final = {\n    "bad_targets": ("bad",),')
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "run.py", "bad", "--seconds", "1.5", "--engine", "seeded", "--out", tmp_path / "o"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert finding in done.stdout
    kept = [path.read_bytes() for path in (tmp_path / "o" / "bad").glob(f"{finding}*.bin")]
    assert any(word.encode() in data for data in kept)
