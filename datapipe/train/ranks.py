"""The run's processes: how they find each other, what they agree on, and how the loss of one ends all.

What enters: a `Layout` and the variables that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
What leaves: `Ranks`: this process's place, and one process group an axis of the layout. Invariant: the group that was
made here is gone when the block ends, however it ends; a rank that fails says why in the store and closes its
connections, so that the others fail too, with its words, instead of waiting for it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from typing import TYPE_CHECKING, Any, Final, final

import torch
import torch.distributed as dist

from datapipe.errors import ConfigError, DatapipeError, TrainError, in_words
from datapipe.train.layout import AXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

    from datapipe.train.config import TrainConfig
    from datapipe.train.layout import Layout

BACKENDS: Final = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl", "xpu": "cpu:gloo,xpu:xccl"}
"""With an accelerator the group talks on the CPU as well: checkpoints and barriers wait for no stream."""
_TRANSPORT: Final = ("gloo/", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
_LAST_WORDS: Final = "datapipe/last_words"
_PATIENCE: Final = dt.timedelta(seconds=2)
"""For the words of a rank that failed: it writes them before it closes its connections."""


@final
class Ranks:
    """The processes of a run, seen from this one.

    Attributes:
        rank, world: this process among all of them.
        place, sizes: its coordinate on each axis, and how many there are.
        mesh: of the axes that are longer than 1, for torch.distributed; None: there is one process.
    """

    def __init__(
        self, *, rank: int, world: int, place: Mapping[str, int], sizes: Mapping[str, int], mesh: DeviceMesh | None
    ) -> None:
        self.rank = rank
        self.world = world
        self.place = dict(place)
        self.sizes = dict(sizes)
        self.mesh = mesh

    @property
    def lead(self) -> bool:
        """Whether this is the one rank that writes logs, holds the run's lock and prunes checkpoints."""
        return self.rank == 0

    @property
    def data_size(self) -> int:
        """Shares that the batches are dealt into."""
        return self.sizes["data"] * self.sizes["shard"]

    @property
    def data_rank(self) -> int:
        """The share that this process reads."""
        return self.place["data"] * self.sizes["shard"] + self.place["shard"]

    def group(self, axis: str) -> Any:
        """The process group along an axis that is longer than 1."""
        assert self.mesh is not None
        return self.mesh.get_group(axis)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.mesh is not None:
            dist.all_reduce(torch.zeros(1))  # on the CPU: dist.barrier would occupy the accelerator

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.mesh is not None:
            dist.all_reduce(values)
        return values

    def alike(self, tensors: list[Tensor]) -> None:
        """Give every rank the first rank's values, in place: a model drawn from another seed would train apart."""
        if self.mesh is None:
            return
        for tensor in tensors:
            dist.broadcast(tensor, 0)

    def check(self, config: TrainConfig, loader: Any) -> None:
        """Refuse what several processes cannot do, and a loader that was placed otherwise.

        Raises:
            ConfigError: ranks of one replica would read different batches, as the loader's own `rank` and `world_size`
                say; or the ranks would have to cut their batches alike, and cannot know how.
        """
        if self.mesh is not None and config.micro_batch == "auto":
            raise ConfigError(
                f'micro_batch="auto" for {self.world} processes',
                expected="a number: one that ran out of memory would leave the others waiting for it",
                fix="the rows that `datapipe memory` finds room for on one of the devices",
            )
        counts = isinstance(getattr(loader, "batch_size", None), int)
        if self.mesh is not None and config.micro_batch is not None and not counts:
            raise ConfigError(
                f"micro_batch={config.micro_batch!r} for {self.world} processes and a {type(loader).__name__}",
                expected="a loader with a batch_size, so that all cut a short batch into as many pieces as one another",
                fix="datapipe.DataLoader, or a smaller batch_size and a larger accumulate",
            )
        told = getattr(loader, "rank", None), getattr(loader, "world_size", None)
        if all(type(number) is int for number in told) and told != (self.data_rank, self.data_size):
            raise ConfigError(
                f"rank {self.rank} of {self.world} has a loader with rank={told[0]}, world_size={told[1]}",
                expected=f"rank={self.data_rank}, world_size={self.data_size}: its share in this layout",
                fix="DataLoader(…, rank=layout.data_rank(), world_size=layout.data_size())",
            )

    def check_same_batch(self, digest: str) -> None:
        """Refuse ranks of one replica that were given different batches.

        Args:
            digest: of this rank's batch, hexadecimal.

        Raises:
            ConfigError: on every rank, if those of any replica differ.
        """
        if self.mesh is None or self.world == self.data_size:
            return
        mine = torch.tensor([self.data_rank, int(digest[:12], 16)])
        found = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(found, mine)
        told = {tuple(row.tolist()) for row in found}
        if len(told) != self.data_size:
            raise ConfigError(
                "ranks of one replica of the model were given different batches",
                expected="the same batches wherever only `tensor` or `pipeline` differ",
                fix="DataLoader(…, rank=layout.data_rank(), world_size=layout.data_size())",
            )


@contextlib.contextmanager
def ranks_of(layout: Layout, device: str = "auto") -> Iterator[Ranks]:
    """This run's ranks; a process group that is there already is used, and left.

    Args:
        device: as `TrainConfig.device`. Under torchrun "auto" and "cuda" mean the accelerator of LOCAL_RANK.

    Raises:
        ConfigError: the layout is not of that many processes, or they cannot be told apart or talk on this device.
        TrainError: another rank failed, or did not come within the layout's timeout.
    """
    given = dist.is_available() and dist.is_initialized()
    world = dist.get_world_size() if given else None
    sizes = layout.sizes(world)
    world = _product(sizes)
    if world == 1:
        yield Ranks(rank=0, world=1, place=dict.fromkeys(AXES, 0), sizes=sizes, mesh=None)
        return
    kind = _local_device(device)
    if not given:
        _join(layout, kind)
    rank = dist.get_rank()
    try:
        with _last_words(rank):
            yield Ranks(rank=rank, world=world, place=layout.place(rank, world), sizes=sizes, mesh=_mesh(kind, sizes))
    finally:
        if not given:
            dist.destroy_process_group()


def _product(sizes: Mapping[str, int]) -> int:
    world = 1
    for size in sizes.values():
        world *= size
    return world


def _local_device(device: str) -> str:
    """The kind of device that the ranks compute on, this rank's own being the current one."""
    kind, _, index = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if index:
        raise ConfigError(
            f"device={device!r} for several processes", expected="one accelerator a process", fix=f"device={kind!r}"
        )
    if kind not in BACKENDS:
        raise ConfigError(
            f"several processes on device {kind!r}", expected=f"one of {', '.join(BACKENDS)}", fix='device="cpu"'
        )
    if kind == "cuda" and torch.cuda.is_available():
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            raise ConfigError(
                f"LOCAL_RANK={local} on a machine with {there} CUDA devices",
                expected="one device a process",
                fix=f'torchrun --nproc-per-node {there}, or device="cpu"',
            )
        torch.cuda.set_device(local)
    return kind


def _join(layout: Layout, kind: str) -> None:
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"no {', '.join(missing)} in the environment",
            expected="what torchrun sets",
            fix="torchrun --nproc-per-node N -m datapipe train …",
        )
    try:
        dist.init_process_group(BACKENDS[kind], timeout=dt.timedelta(seconds=layout.timeout))
    except (RuntimeError, ValueError) as error:
        raise TrainError(
            f"the ranks did not find each other: {in_words(error)}",
            expected=f"{os.environ['WORLD_SIZE']} processes at {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            fix="check the other ranks' errors, and that the address can be reached",
        ) from error


def _mesh(kind: str, sizes: Mapping[str, int]) -> DeviceMesh:
    from torch.distributed.device_mesh import init_device_mesh

    axes = [axis for axis in AXES if sizes[axis] > 1]
    return init_device_mesh(kind, tuple(sizes[axis] for axis in axes), mesh_dim_names=tuple(axes))


@contextlib.contextmanager
def _last_words(rank: int) -> Iterator[None]:
    """Leave this rank's error for the others; where this rank failed because another did, say what that one said."""
    try:
        yield
    except Exception as error:
        if _of_another(error):
            raise _lost(error) from error
        _leave_words(rank, error)
        raise
    except BaseException as error:
        _leave_words(rank, error)
        raise


def _of_another(error: BaseException) -> bool:
    """Whether an error only says that another rank is gone: gloo and NCCL have no one class for it, but say who talks.

    Also where something of ours has wrapped it, as a checkpoint does.
    """
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, (RuntimeError, DatapipeError)) and any(word in str(error) for word in _TRANSPORT)


def _leave_words(rank: int, error: BaseException) -> None:
    with contextlib.suppress(Exception):
        # compare_set: the first to fail is the cause of the rest.
        _store().compare_set(_LAST_WORDS, "", f"rank {rank}: {in_words(error)}")


def _lost(error: BaseException) -> DatapipeError:
    said = ""
    with contextlib.suppress(Exception):
        store = _store()
        store.wait([_LAST_WORDS], _PATIENCE)
        said = store.get(_LAST_WORDS).decode()
    found = TrainError(
        f"another rank ended: {said or 'it left no word (killed, out of memory, or its machine is gone)'}",
        expected="every rank to take part in each step",
        fix="see that rank's own error; start all ranks again: they go on from the newest checkpoint",
    )
    found.add_note(in_words(error))
    return found


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()  # noqa: SLF001  (torch has no public way to its store)
