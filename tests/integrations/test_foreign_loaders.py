"""Hugging Face `datasets`, WebDataset and MosaicML Streaming, iterated as their users do, in unmodified scripts."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile

import numpy as np
import pytest

from datapipe.integrations.script import profile_script
from datapipe.profiling import load_profile

torch = pytest.importorskip("torch")

MODEL = """
    import sys, time
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def train(x):
        optimizer.zero_grad()
        model(x.float()).mean().backward()
        optimizer.step()

    def slow(row):
        time.sleep(0.002)
        return row
"""


def profiled(scripts, folder, body, *argv):
    assert profile_script([scripts("train", MODEL + body), *argv], folder) == 0
    summary = load_profile(folder)
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns
    return summary, {row.name: row for row in summary.stages}


def needs(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


HF = """
    import datasets
    rows = datasets.Dataset.from_dict({"x": [[float(i)] * 4 for i in range(160)]}).with_format("torch")
    stream = rows.to_iterable_dataset().map(slow)
    how = sys.argv[1]
    vocabulary = {float(row["x"][0]) for row in rows}  # no training: no steps
    if how == "loader":
        for batch in DataLoader(rows, batch_size=8, num_workers=int(sys.argv[2])):
            train(batch["x"])
    elif how == "stream loader":
        for batch in DataLoader(stream, batch_size=8, num_workers=int(sys.argv[2])):
            train(batch["x"])
    elif how == "batches":
        for batch in rows.iter(batch_size=8):
            train(batch["x"])
    elif how == "stream":
        for batch in stream.iter(batch_size=8):
            train(batch["x"])
    elif how == "rows":
        held = []
        for row in stream:
            held.append(row["x"])
            if len(held) == 8:
                train(torch.stack(held))
                held = []
"""


@needs("datasets")
@pytest.mark.parametrize(
    ("how", "workers", "slow"),
    [("loader", 0, False), ("loader", 2, False), ("stream loader", 0, True), ("stream loader", 1, True),
     ("batches", 0, False), ("stream", 0, True), ("rows", 0, True)],
)  # fmt: skip
def test_hugging_face_datasets(scripts, tmp_path, typical_waits, how, workers, slow):
    """A dataset, a stream, under torch's loader or iterated itself, in batches or rows: a step per batch trained on."""
    summary, rows = profiled(scripts, tmp_path / "out", HF, how, str(workers))
    assert summary.series.count == 20
    assert rows["optimizer"].count == 20
    assert rows["dataset"].count == (160 if how == "rows" else 20)
    if slow:
        assert summary.verdict.kind == "input-bound"
        # Handing over between processes takes what a busy machine makes it take: its share is no promise.
        assert typical_waits(summary)["dataset"] > (0.5 if not workers else 0)


WEBDATASET = """
    import webdataset as wds

    def decode(sample):
        time.sleep(0.004)
        return torch.load(__import__("io").BytesIO(sample["x.pth"])), 0

    data = wds.WebDataset("shard-{0..1}.tar", shardshuffle=False, empty_check=False).map(decode)
    if sys.argv[1] == "pipeline":
        for x, _ in data.batched(8):
            train(x)
    elif sys.argv[1] == "torch":
        for x, _ in DataLoader(data.batched(8), batch_size=None, num_workers=int(sys.argv[2])):
            train(x)
    elif sys.argv[1] == "webloader":
        loader = wds.WebLoader(data.batched(4), batch_size=None, num_workers=int(sys.argv[2]))
        for x, _ in loader.unbatched().shuffle(10).batched(8):
            train(x)
"""


@pytest.fixture
def shards(tmp_path):
    """Two tars of 80 tensors each."""
    for shard in range(2):
        with tarfile.open(tmp_path / f"shard-{shard}.tar", "w") as tar:
            for i in range(80):
                data = io.BytesIO()
                torch.save(torch.full((4,), float(i)), data)
                entry = tarfile.TarInfo(f"{shard}-{i:03}.x.pth")
                entry.size = len(data.getvalue())
                tar.addfile(entry, io.BytesIO(data.getvalue()))


@needs("webdataset")
@pytest.mark.parametrize(
    ("how", "workers"), [("pipeline", 0), ("torch", 0), ("torch", 2), ("webloader", 0), ("webloader", 2)]
)
def test_webdataset(scripts, tmp_path, shards, typical_waits, how, workers):
    """A pipeline, torch's loader over it, and a WebLoader that batches anew: one step per batch that is trained on."""
    summary, rows = profiled(scripts, tmp_path / "out", WEBDATASET, how, str(workers))
    assert summary.series.count == rows["optimizer"].count == 20
    assert rows["dataset"].threads == max(1, workers)
    assert summary.verdict.kind == "input-bound"
    assert typical_waits(summary)["dataset"] > (0.5 if not workers else 0)
    if not workers:
        assert summary.verdict.bottleneck == "dataset"


STREAMING = """
    import streaming
    if sys.argv[1] == "write":
        with streaming.MDSWriter(out="mds", columns={"x": "ndarray:float32:4"}) as out:
            for i in range(160):
                out.write({"x": __import__("numpy").full(4, i, "float32")})
    class Slow(streaming.StreamingDataset):
        def __getitem__(self, index):
            return slow(super().__getitem__(index))
    if __name__ == "__main__":
        data = Slow(local="mds", batch_size=8)
        if sys.argv[1] == "loader":
            for batch in streaming.StreamingDataLoader(data, batch_size=8, num_workers=int(sys.argv[2])):
                train(batch["x"])
        elif sys.argv[1] == "rows":
            held = []
            for row in data:
                held.append(torch.as_tensor(row["x"].copy()))
                if len(held) == 8:
                    train(torch.stack(held))
                    held = []
"""


@needs("streaming")
@pytest.mark.parametrize(("how", "workers"), [("loader", 0), ("loader", 2), ("rows", 0)])
def test_mosaicml_streaming(scripts, tmp_path, typical_waits, how, workers):
    """Its loader with workers or without, and its dataset iterated by row: one step per batch that is trained on."""
    assert profile_script([scripts("write", MODEL + STREAMING), "write"], tmp_path / "written") == 0
    summary, rows = profiled(scripts, tmp_path / "out", STREAMING, how, str(workers))
    assert summary.series.count == rows["optimizer"].count == 20
    assert summary.verdict.kind == "input-bound"
    assert typical_waits(summary)["dataset"] > (0.5 if not workers else 0)


def test_what_is_imported_is_as_without_the_profile(scripts, tmp_path, monkeypatch):
    """A watched module is found and loaded by Python's own machinery, and put back; nothing else is imported."""
    package = tmp_path / "webdataset"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "pipeline.py").write_text(
        "loader = __loader__\nclass DataPipeline:\n    def __iter__(self):\n        return iter([1, 2])\n"
    )
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "webdataset"}
    body = """
    import webdataset.pipeline as p
    assert type(p.loader).__name__ == type(p.__spec__.loader).__name__ == "SourceFileLoader", p.loader
    assert "streaming" not in sys.modules
    seen = list(p.DataPipeline())
    assert seen == [1, 2]
    """
    before = list(sys.meta_path)
    try:
        assert profile_script([scripts("imports", MODEL + body)], tmp_path / "out") == 0
        assert sys.meta_path == before
        assert not hasattr(sys.modules["webdataset.pipeline"].DataPipeline.__iter__, "__wrapped__")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "webdataset"]:
            del sys.modules[name]
        sys.modules.update(saved)
    assert load_profile(tmp_path / "out").series.count == 0


NESTED = """
    import datasets
    files = datasets.Dataset.from_dict({"start": list(range(0, 40, 10))})
    for file in files:  # a loop over parts, in each of which a loader is the training loop
        part = torch.arange(file["start"], file["start"] + 40.0).reshape(10, 4)
        for x in DataLoader(part, batch_size=2):
            train(x)
"""


@needs("datasets")
def test_a_loop_around_the_training_loop_makes_no_steps(scripts, tmp_path):
    """The rows of an outer dataset are not batches: the loader inside is the training loop."""
    summary, _ = profiled(scripts, tmp_path / "out", NESTED)
    assert summary.series.count == 20
    assert summary.epochs == 4
    assert np.all(np.diff(summary.series.number) == 1)
