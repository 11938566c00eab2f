"""What is trained on: packed tokens for the built-in GPT, JPEGs for a small convolutional network; ours and torch's.

What enters: a folder, a device, whether it shall be small. What leaves: per workload a loader of ours, epochs of
torch's DataLoader with page-locking and workers, and a training step. Invariant: both deliver the same numbers: one
epoch of each is looked at, every sample found once and unchanged, before anything is timed.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "loaders"))
from pictures import Corpus, find_decoder, make_corpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of training.

    Attributes:
        loader: device → a loader of ours. peer: begins an epoch of torch's DataLoader, its batches on the device.
        step: one training step. look: batch → (ids, checksum) on the host. rows, total: of the whole corpus.
    """

    loader: Callable[..., Any]
    peer: Callable[[], Iterable[Any]]
    step: Callable[[Any], None]
    look: Callable[[Any], tuple[np.ndarray, int]]
    rows: int
    total: int


def check(workload: Workload, epoch: Iterable[Any]) -> None:
    """Every sample once and unchanged; a last batch that is not full may be missing.

    Raises:
        ValueError: it is not so.
    """
    ids, total = [], 0
    for batch in epoch:
        found, amount = workload.look(batch)
        ids.append(found)
        total += amount
    delivered = np.sort(np.concatenate(ids)) if ids else np.zeros(0, np.int64)
    if not np.array_equal(delivered, np.arange(workload.rows)) or total != workload.total:
        raise ValueError(f"{len(delivered)} samples of {workload.rows}, checksum {total}, not {workload.total}")


def _trainer(model: torch.nn.Module, device: torch.device, loss_of: Callable[[Any], torch.Tensor]) -> Any:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    low = device.type != "cpu"

    def step(batch: Any) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _workers(quick: bool) -> int:
    return 0 if quick else max(1, min(8, (os.cpu_count() or 2) - 1))


class Rows(torch.utils.data.Dataset[Any]):
    """Rows of a memmap with their numbers, as a tutorial writes it."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self._path, self._shape = path, shape
        self._rows: Any = None

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, at: int) -> dict[str, Any]:
        if self._rows is None:
            self._rows = np.memmap(self._path, np.uint16, "r", shape=self._shape)
        return {"id": at, "tokens": self._rows[at].astype(np.int64)}


def peer_epochs(dataset: Any, batch: int, device: torch.device, quick: bool) -> Callable[[], Iterator[Any]]:
    """torch's DataLoader, set up as its documentation advises."""
    workers = _workers(quick)
    more: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    loader = torch.utils.data.DataLoader(
        dataset, batch, shuffle=True, num_workers=workers, pin_memory=device.type != "cpu", **more
    )

    def epoch() -> Iterator[Any]:
        for each in loader:
            yield {name: value.to(device, non_blocking=True) for name, value in each.items()}

    return epoch


def tokens(folder: Path, device: torch.device, *, quick: bool) -> Workload:
    """uint16 [N, T], shuffled; delivered as int64."""
    import pyarrow as pa

    import datapipe
    from datapipe.train import GPT, GPTConfig

    rows, length, batch = (96, 32, 8) if quick else (65_536, 1024, 16)
    values = np.random.default_rng(0).integers(1, 50_000 if not quick else 60, (rows, length), dtype=np.uint16)
    folder.mkdir(parents=True, exist_ok=True)
    values.tofile(folder / "tokens.bin")
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), length)
    table = pa.table({"id": pa.array(np.arange(rows)), "tokens": column})
    with pa.OSFile(str(folder / "tokens.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table, max_chunksize=max(16, rows // 64))
    shape = {"layers": 1, "heads": 2, "width": 16} if quick else {"layers": 12, "heads": 12, "width": 768}
    model = GPT(GPTConfig(vocab_size=64 if quick else 50_304, seq_len=length, **shape)).to(device)

    def loss_of(each: Any) -> torch.Tensor:
        loss, count = model.loss_sum({"tokens": each["tokens"]})
        return loss / count

    def look(each: Any) -> tuple[np.ndarray, int]:
        return each["id"].cpu().numpy(), int((each["tokens"].sum(1) * (each["id"] + 1)).sum())

    dataset = datapipe.open_dataset(folder / "tokens.arrow")
    total = int((values.astype(np.int64).sum(1) * np.arange(1, rows + 1)).sum())
    return Workload(
        loader=lambda where=device: datapipe.DataLoader(dataset, batch, device=where),
        peer=peer_epochs(Rows(folder / "tokens.bin", (rows, length)), batch, device, quick),
        step=_trainer(model, device, loss_of), look=look, rows=rows, total=total,
    )  # fmt: skip


class Pictures(torch.utils.data.Dataset[Any]):
    """JPEGs of a memmap, decoded one by one."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus, self._ends = corpus, corpus.ends
        self._flat: Any = None

    def __len__(self) -> int:
        return self._corpus.rows

    def __getitem__(self, at: int) -> dict[str, Any]:
        if self._flat is None:
            self._flat = self._corpus.flat
        data = self._flat[self._ends[at] : self._ends[at + 1]]
        return {"id": at, "image": np.ascontiguousarray(self._corpus.decode(data).transpose(2, 0, 1))}


def images(folder: Path, device: torch.device, *, quick: bool) -> Workload:
    """JPEGs of 30 to 60 kB, decoded to uint8 [B, 3, 224, 224], scaled on the device.

    Raises:
        ImportError: neither simplejpeg nor Pillow is installed.
    """
    import datapipe

    if find_decoder() is None:
        raise ImportError("neither simplejpeg nor Pillow")
    corpus = make_corpus(folder, quick)
    decode, side, batch = corpus.decode, 224, 8 if quick else 64
    nn = torch.nn
    width = 4 if quick else 64
    layers: list[Any] = [nn.Conv2d(3, width, 7, 4, 3), nn.ReLU()]
    for _ in range(0 if quick else 6):
        layers += [nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)).to(device)

    def loss_of(each: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(each["image"].float() / 255), each["id"] % 10)

    def to_pixels(each: dict[str, Any]) -> dict[str, Any]:
        out = np.empty((len(each["jpeg"]), 3, side, side), np.uint8)
        for at, data in enumerate(each["jpeg"]):
            out[at] = decode(data).transpose(2, 0, 1)
        return {"id": each["id"], "image": torch.from_numpy(out)}

    def look(each: Any) -> tuple[np.ndarray, int]:
        ids = each["id"].cpu()
        return ids.numpy(), int((each["image"].cpu().sum((1, 2, 3), dtype=torch.int64) * (ids + 1)).sum())

    dataset = datapipe.open_dataset(str(corpus.folder / "arrow"))
    return Workload(
        loader=lambda where=device: datapipe.DataLoader(dataset, batch, device=where, transform=to_pixels),
        peer=peer_epochs(Pictures(corpus), batch, device, quick),
        step=_trainer(model, device, loss_of), look=look, rows=corpus.rows, total=corpus.total,
    )  # fmt: skip
