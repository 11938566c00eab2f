"""The benchmark on packed tokens runs, and refuses a contender that cheats."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "loader_tokens.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("loader_tokens", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["loader_tokens"] = module  # its dataclass looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus(bench, tmp_path_factory):
    return bench.make_corpus(tmp_path_factory.mktemp("tokens"), 1280, 16, 32)


def test_contenders_that_need_no_other_loader_are_checked_and_measured(bench, corpus, monkeypatch):
    ours = {name: make for name, make in bench.CONTENDERS.items() if "datapipe" in name or "bound" in name}
    assert len(ours) == 5
    monkeypatch.setattr(bench, "CONTENDERS", ours)
    rates = bench.measure(corpus, 2, say=lambda _: None)
    assert all(len(each) == 2 for each in rates.values())
    assert bench.table(rates).count("\n") == 6


@pytest.mark.parametrize("fault", ["short", "twice", "changed", "narrow"])
def test_a_contender_that_does_not_deliver_each_row_once_is_thrown_out(bench, corpus, fault):
    def epoch():
        for start in range(0, corpus.rows, corpus.batch):
            if fault == "short" and start == 0:
                continue
            batch = np.array(corpus.memmap[start : start + corpus.batch], np.int64)
            if fault == "twice":
                batch[1] = batch[0]
            if fault == "changed":
                batch[0, 3] += 1
            yield batch.astype(np.int32) if fault == "narrow" else batch

    with pytest.raises(SystemExit):
        bench.check(corpus, epoch)
