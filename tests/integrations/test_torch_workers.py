"""Loaders with worker processes: what every worker did is in the profile, under the batch it did it for."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from datapipe.integrations.script import profile_script
from datapipe.integrations.torch_hooks import torch_hooks
from datapipe.profiling import load_profile, profile

torch = pytest.importorskip("torch")

SLOW = """
    import sys, time
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Slow(Dataset):
        def __len__(self):
            return 48

        def __getitem__(self, index):
            time.sleep(0.005)
            return torch.tensor([float(index)])

    def collate(rows):
        time.sleep(0.001)
        return torch.stack(rows)

    if __name__ == "__main__":
        workers, how, persistent = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "persistent"
        loader = DataLoader(
            Slow(), batch_size=4, num_workers=workers, collate_fn=collate,
            multiprocessing_context=how if workers else None, persistent_workers=persistent,
        )
        for epoch in range(2):
            seen = sorted(x for batch in loader for x in batch.flatten().tolist())
            assert seen == [float(i) for i in range(48)], seen
        print("trained")
"""


def stage(raw, name):
    return raw.spans[raw.spans["stage"] == raw.stages.index(name)]


@pytest.mark.parametrize(
    ("workers", "how", "persistent"),
    [(0, "-", "-"), (1, "fork", "-"), (2, "fork", "-"), (2, "fork", "persistent"),
     pytest.param(2, "spawn", "-", marks=pytest.mark.slow),
     (2, "forkserver", "persistent")],
)  # fmt: skip
def test_fetch_and_collate_are_seen_in_every_worker(scripts, tmp_path, capsys, typical_waits, workers, how, persistent):
    """However workers start: each batch has a span of its dataset's code and one of collate; the wait is theirs."""
    assert profile_script([scripts("slow", SLOW), str(workers), how, persistent], tmp_path / "out") == 0
    assert capsys.readouterr().out == "trained\n"
    summary = load_profile(tmp_path / "out")
    rows = {row.name: row for row in summary.stages}
    assert (rows["dataset"].count, rows["collate"].count) == (24, 24)
    assert rows["dataset"].mean >= 4 * 5e6
    assert rows["collate"].mean >= 1e6
    assert rows["dataset"].threads == max(1, workers)
    assert summary.series.count == 24
    assert summary.verdict.kind == "input-bound"
    shares = typical_waits(summary)
    assert shares["dataset"] > 0
    if not workers:  # handing over between processes takes what a busy machine makes it take
        assert shares["dataset"] > 0.5
        assert shares["collate"] > 0
    assert shares.get("loader", 0) < 0.1
    if workers:
        assert rows["worker start"].count == workers * (1 if persistent == "persistent" else 2)
    assert {name for name in summary.recorder.threads if "worker" in name} == {
        f"DataLoader worker {i}" for i in range(workers)
    }
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.tensor([float(index)])


@pytest.mark.parametrize("persistent", [False, True])
def test_a_wait_names_the_batch_that_a_worker_made(persistent):
    """Every batch number occurs once per stage, is one a wait names, and was made no later than its wait ended."""
    loader = torch.utils.data.DataLoader(Rows(), batch_size=5, num_workers=2, persistent_workers=persistent)
    other = torch.utils.data.DataLoader(Rows(), batch_size=10, num_workers=1)
    with profile() as prof, torch_hooks(prof):
        for _ in range(3):
            for _one, _two in zip(loader, other, strict=False):
                pass
    raw = prof.raw()
    waits = stage(raw, "wait")
    made = {int(span["item"]): int(span["end"]) for span in stage(raw, "collate")}
    assert len(made) == len(stage(raw, "collate")) == len(stage(raw, "dataset"))
    named = collections.Counter(waits["cause"].tolist())
    assert len(waits) == 3 * (5 + 4)  # the longer of the two is asked once more before the other ends
    assert max(named.values()) == 1
    assert set(named) <= set(made)
    assert all(made[int(wait["cause"])] <= int(wait["end"]) for wait in waits)


def test_rings_are_handed_on_from_workers_that_ended():
    """Five epochs of new workers take no more rings than there are workers at once, and lose no span."""
    loader = torch.utils.data.DataLoader(Rows(), batch_size=5, num_workers=2)
    with profile() as prof, torch_hooks(prof):
        for _ in range(5):
            assert len(list(loader)) == 8
    raw = prof.raw()
    assert sum("worker" in name for name in raw.threads) == 2
    assert len(stage(raw, "dataset")) == 40
    assert raw.lost == 0
    assert len(np.unique(stage(raw, "dataset")["item"])) == 40


class Fails(Rows):
    def __getitem__(self, index):
        if index == 33:
            raise ValueError("row 33")
        return super().__getitem__(index)


def test_a_worker_that_fails_fails_as_it_would_alone():
    """The exception reaches the loop with its worker's traceback; what was fetched before it is kept."""
    loader = torch.utils.data.DataLoader(Fails(), batch_size=5, num_workers=2)
    with (
        profile() as prof,
        torch_hooks(prof),
        pytest.raises(ValueError, match="Caught ValueError in DataLoader worker"),
    ):
        list(loader)
    assert len(stage(prof.raw(), "collate")) >= 6


def test_batches_in_any_order_are_recorded_without_numbers():
    """`in_order=False` says not which batch came: spans are kept and no wait names a batch."""
    loader = torch.utils.data.DataLoader(Rows(), batch_size=5, num_workers=2, in_order=False)
    with profile() as prof, torch_hooks(prof):
        assert len(list(loader)) == 8
    assert set(stage(prof.raw(), "wait")["cause"].tolist()) == {-1}
    assert len(stage(prof.raw(), "dataset")) == 8


class Nested(Rows):
    """Reads another loader in each of its rows."""

    def __getitem__(self, index):
        inner = torch.utils.data.DataLoader(torch.zeros(4, 1), batch_size=2)
        return sum(batch.sum() for batch in inner) + index


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_inside_a_dataset_is_part_of_its_fetch(workers):
    """No step, wait or span is made of the inner loader's batches."""
    with profile() as prof, torch_hooks(prof):
        assert len(list(torch.utils.data.DataLoader(Nested(), batch_size=4, num_workers=workers))) == 10
    raw = prof.raw()
    assert [len(stage(raw, name)) for name in ("step", "wait", "dataset", "collate")] == [10, 10, 10, 10]


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_pinning_is_seen(monkeypatch, workers, persistent):
    """With an accelerator (a pretended one), each batch has a "pin" span under its number; one ring serves all."""
    from torch.utils.data._utils import pin_memory

    def pinned(data, device=None):
        if isinstance(data, list):
            return [pin_memory.pin_memory(row, device) for row in data]
        return None if data is None else data + 1

    monkeypatch.setattr(pin_memory, "pin_memory", pinned)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda _: None)
    loader = torch.utils.data.DataLoader(
        Rows(), batch_size=5, num_workers=workers, pin_memory=True, persistent_workers=persistent, collate_fn=list
    )
    with profile() as prof, torch_hooks(prof):
        for _ in range(3):
            seen = [int(row) for batch in loader for row in batch]
            assert seen == [i + 1 for i in range(40)]
    raw = prof.raw()
    collated = {int(span["item"]): int(span["end"]) for span in stage(raw, "collate")}
    spans = stage(raw, "pin")
    assert len(spans) >= (24 if not workers else 20)  # a thread may be quicker than its loader is known
    assert len(np.unique(spans["item"])) == len(spans)
    assert all(collated[int(span["item"])] <= int(span["start"]) for span in spans)
    assert sum("pin" in name for name in raw.threads) == (1 if workers else 0)
