"""The overlap benchmark measures what it says, on steps that only sleep."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def overlap():
    path = Path(__file__).parents[2] / "benchmarks" / "train" / "overlap.py"
    spec = importlib.util.spec_from_file_location("overlap_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_step_is_no_shorter_than_its_compute(overlap, monkeypatch, tmp_path):
    monkeypatch.setattr(overlap, "SLEEP", 0.004)
    monkeypatch.setattr(overlap, "ROWS", 256)
    overlap.write(tmp_path)
    with overlap.loader_of(tmp_path, "sleep", overlap.amount_for("sleep", 0.003), 1) as loader:
        assert overlap.drain(loader, 8) > 0
        took = overlap.run(loader, 8, "sleep")
    assert took.step >= 0.004
    assert 0 <= took.wait < took.step
    assert overlap.Work("numpy", 2)("batch") == overlap.Work("python", 2)("batch") == "batch"
    assert overlap.amount_for("python", 1e-9) == 1


@pytest.mark.slow
def test_all_four_take_turns(overlap, monkeypatch, capsys):
    monkeypatch.setattr(overlap, "SLEEP", 0.02)
    result = overlap.measure("sleep", steps=8, rounds=1, threads=1)
    assert result["data_of_compute"] == pytest.approx(result["data"] / result["compute"])
    assert min(result[name] for name in ("compute", "run", "beside")) >= 0.02
    overlap.show(result)
    assert "aim 1.05" in capsys.readouterr().out
