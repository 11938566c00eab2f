"""Where `torch.distributed.checkpoint` puts tensors: safetensors files, one a rank and part, and JSON about them.

    model.safetensors, optimizer.safetensors            one rank
    model-00001-of-00002.safetensors, …                 two: each writes what it holds of every sharded tensor, and its
                                                        share of those that all hold alike

What enters: a plan of torch's planners, of tensors `<part>.<name>` to save or `<part>/<name>` to load. What leaves:
such files, and an index `{"<part>/<name>": {"dtype", "shape", "chunks": [[file, offsets, sizes], …]}}`. Invariant:
nothing is pickled into a file or out of one (torch's own storage keeps its `.metadata` so, and all that is no tensor):
what is no tensor is refused, and the metadata that a load is planned from is made of checked JSON. So any world size
reads what any wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import WriteItemType
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from datapipe.errors import CheckpointError
from datapipe.train.checkpoint_files import faults, file_record, readable_as_usual, sync_file
from datapipe.train.checkpoint_index import DTYPES

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor
    from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner


def file_name(part: str, rank: int, ranks: int) -> str:
    """The file of a rank's tensors of a part: "model", "optimizer"."""
    return f"{part}.safetensors" if ranks == 1 else f"{part}-{rank + 1:05d}-of-{ranks:05d}.safetensors"


@final
class SafetensorsWriter(StorageWriter):
    """One save of one rank.

    Args:
        folder: to write into; the first rank makes it, and all see it.
        begin: makes the folder; called on the first rank before any writes.
        commit: gets the index, and name → size and checksum of every file, once all are synced; called on the first
            rank.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        ranks: int,
        begin: Callable[[], None],
        commit: Callable[[dict[str, Any], dict[str, Any]], None],
    ) -> None:
        super().__init__()
        self._folder = folder
        self._rank = rank
        self._ranks = ranks
        self._begin = begin
        self._commit = commit

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing is kept between saves."""

    def set_up_storage_writer(self, is_coordinator: bool, *_args: Any, **_kwargs: Any) -> None:
        """Rank and number are known."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """On the first rank, before any writes."""
        self._begin()
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's tensors, a file a part, synced.

        Raises:
            NoSpaceError, CheckpointError: they cannot be written, there is something that is no tensor, or the folder
                is not the first rank's.
        """
        from safetensors.torch import save_file

        parts: dict[str, dict[str, Tensor]] = {}
        for item in plan.items:
            part, _, name = item.index.fqn.partition(".")
            if item.type is WriteItemType.BYTE_IO:
                raise CheckpointError(
                    f"{part}/{name} is no tensor",
                    expected="tensors alone: nothing is pickled into a checkpoint",
                    fix="keep it as a tensor (register_buffer), or make it anew when the model is made",
                )
            value = planner.resolve_data(item)
            assert isinstance(value, torch.Tensor)
            parts.setdefault(part, {})[name] = _dense(value)
        if parts and not self._folder.is_dir():
            raise CheckpointError(
                f"rank {self._rank} finds no {self._folder}, which the first rank has made",
                expected="a folder for the run that every rank sees",
                fix="a shared file system for it",
            )
        records: dict[str, dict[str, Any]] = {}
        with faults(f"checkpoint {self._folder}"):
            for part, tensors in parts.items():
                path = self._folder / file_name(part, self._rank, self._ranks)
                save_file(tensors, path)
                readable_as_usual(path, self._folder)
                sync_file(path)
                records[part] = {"file": path.name, **file_record(path)}
        written: Future[list[WriteResult]] = Future()
        written.set_result(
            [
                WriteResult(item.index, item.tensor_storage_size() or 0, records[item.index.fqn.partition(".")[0]])
                for item in plan.items
            ]
        )
        return written

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On the first rank, when every rank has written."""
        index: dict[str, Any] = {}
        files: dict[str, Any] = {}
        for result in (result for of_rank in results for result in of_rank):
            told = metadata.state_dict_metadata[result.index.fqn]
            assert isinstance(told, TensorStorageMetadata)
            record = dict(result.storage_data)
            file = record.pop("file")
            files[file] = record
            entry = index.setdefault(
                result.index.fqn.replace(".", "/", 1),
                {
                    "dtype": str(told.properties.dtype).removeprefix("torch."),
                    "shape": list(told.size),
                    "chunks": [],
                },
            )
            sizes = next(chunk.sizes for chunk in told.chunks if chunk.offsets == result.index.offset)
            entry["chunks"].append([file, list(result.index.offset or ()), list(sizes)])
        self._commit(index, files)

    @classmethod
    def validate_checkpoint_id(cls, _checkpoint_id: str | os.PathLike[str]) -> bool:
        """There is none: the folder is given."""
        return False


@final
class SafetensorsReader(StorageReader):
    """A checkpoint's tensors, by its index; `checked_index` has looked at it."""

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        super().__init__()
        self._folder = folder
        self._index = index
        self._chunks = {
            (name, tuple(offsets)): (file, sizes)
            for name, entry in index.items()
            for file, offsets, sizes in entry["chunks"]
        }

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing is kept between loads."""

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:
        """As torch's planner wants it."""
        return Metadata(
            {
                name: TensorStorageMetadata(
                    properties=TensorProperties(dtype=DTYPES[entry["dtype"]]),
                    size=torch.Size(entry["shape"]),
                    chunks=[
                        ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=torch.Size(sizes))
                        for _, offsets, sizes in entry["chunks"]
                    ],
                )
                for name, entry in self._index.items()
            }
        )

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *_args: Any, **_kwargs: Any) -> None:
        """The index is known."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy into the planned tensors what they take of each chunk; nothing else is read."""
        from safetensors import safe_open

        wanted: dict[str, list[Any]] = {}
        for item in plan.items:
            index: MetadataIndex = item.storage_index
            wanted.setdefault(self._chunks[index.fqn, tuple(index.offset or ())][0], []).append(item)
        with faults(f"checkpoint {self._folder}"):
            for file, items in wanted.items():
                with safe_open(self._folder / file, framework="pt") as tensors:
                    for item in items:
                        at: MetadataIndex = item.storage_index
                        sizes = self._chunks[at.fqn, tuple(at.offset or ())][1]
                        part = _told_slice(tensors, file, at.fqn, self._index[at.fqn]["dtype"], sizes)
                        begins = zip(item.storage_offsets, item.lengths, strict=True)
                        value = part[tuple(slice(begin, begin + length) for begin, length in begins)]
                        target = planner.resolve_tensor(item).detach()
                        target.copy_(value)
                        planner.commit_tensor(item, target)
        read: Future[None] = Future()
        read.set_result(None)
        return read

    @classmethod
    def validate_checkpoint_id(cls, _checkpoint_id: str | os.PathLike[str]) -> bool:
        """There is none: the folder is given."""
        return False


def whole_tensors(folder: Path, index: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """A part's tensors by name, put together on the CPU."""
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    wanted: dict[str, list[tuple[str, list[int], list[int]]]] = {}
    for full, entry in index.items():
        of, _, name = full.partition("/")
        if of == part:
            found[name] = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]])
            for file, offsets, sizes in entry["chunks"]:
                wanted.setdefault(file, []).append((name, offsets, sizes))
    with faults(f"checkpoint {folder}"):
        for file, chunks in wanted.items():
            with safe_open(folder / file, framework="pt") as tensors:
                for name, offsets, sizes in chunks:
                    ends = zip(offsets, sizes, strict=True)
                    entry = index[f"{part}/{name}"]
                    value = _told_slice(tensors, file, f"{part}/{name}", entry["dtype"], sizes)[...]
                    found[name][tuple(slice(begin, begin + size) for begin, size in ends)] = value
    return found


def _told_slice(tensors: Any, file: str, full: str, dtype: str, sizes: list[int]) -> Any:
    """A tensor of an open file, unread, if it is as the index has it: another would be cast or stretched to fit."""
    from safetensors.torch import _getdtype

    part = tensors.get_slice(full.partition("/")[2])
    got = str(_getdtype(part.get_dtype())).removeprefix("torch."), list(part.get_shape())
    if got != (dtype, sizes):
        raise CheckpointError(
            f"{file}: {full} is {got[0]} {got[1]}",
            expected=f"{dtype} {sizes}, as the index says",
            fix='resume="fallback" to go on from the checkpoint before',
        )
    return part


def _dense(value: Tensor) -> Tensor:
    """On the CPU, without gaps, alone in its memory: what safetensors takes."""
    value = value.detach().cpu().contiguous()
    alone = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if alone else value.clone()
