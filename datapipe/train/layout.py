"""How many processes train one model, and what each of them is for.

    pipeline x data x shard x tensor = the processes of the run       the last changes fastest from rank to rank

What enters: four numbers, and the rank that torchrun gave this process. What leaves: this process's place, and which
share of the batches it reads. Invariant: ranks that differ only in `tensor` or `pipeline` hold parts of one replica of
the model and read the same batches; those that differ in `data` or `shard` read different ones. No torch in here: a
loader is placed before anything heavy is imported.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, final

from datapipe.errors import ConfigError

AXES: Final = ("pipeline", "data", "shard", "tensor")
"""From the slowest to the fastest: tensor-parallel ranks talk most and are neighbours, as torchtitan lays them out."""
SCHEDULES: Final = ("1f1b", "gpipe")


@final
@dataclass(frozen=True, kw_only=True)
class Layout:
    """A run's processes.

    Attributes:
        data: replicas of the model, each on its own batches (DDP, arXiv:2006.15704). None: as many as the processes
            that torchrun started allow.
        shard: processes that share one replica's parameters, gradients and optimizer state, each on its own batches
            (FSDP2, ZeRO-3: arXiv:1910.02054). With `data` above 1 hybrid: sharded within, replicated across.
        tensor: processes that share every layer's matrices, on the same batches (Megatron-LM, arXiv:1909.08053).
        pipeline: processes that hold the layers one after the other, on the same batches.
        microbatches: parts that a batch is cut into by rows to fill the pipeline; None: twice its stages. The share of
            idle time is (pipeline - 1) / (microbatches + pipeline - 1) (arXiv:1811.06965, section 2.3).
        schedule: of the pipeline: "1f1b" (holds no more activations than it has stages, arXiv:2104.04473) or "gpipe".
        timeout: seconds a rank waits for another before it gives up.

    Raises:
        ConfigError: a number is out of its range, or torch cannot combine two of them.
    """

    data: int | None = None
    shard: int = 1
    tensor: int = 1
    pipeline: int = 1
    microbatches: int | None = None
    schedule: Literal["1f1b", "gpipe"] = "1f1b"
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for name in ("data", "shard", "tensor", "pipeline", "microbatches"):
            value = getattr(self, name)
            optional = name in {"data", "microbatches"}
            if (value is None and optional) or (type(value) is int and value >= 1):
                continue
            raise ConfigError(
                f"Layout({name}={value!r})", expected="a whole number from 1" + (", or None" if optional else "")
            )
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"Layout(schedule={self.schedule!r})", expected=f"one of {', '.join(SCHEDULES)}")
        number = isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool)
        if not number or not math.isfinite(self.timeout) or self.timeout <= 0:
            raise ConfigError(f"Layout(timeout={self.timeout!r})", expected="seconds, a finite number above 0")
        if self.microbatches is not None and self.microbatches < self.pipeline:
            raise ConfigError(
                f"Layout(pipeline={self.pipeline}, microbatches={self.microbatches})",
                expected="at least one micro-batch a stage: with fewer some stage never works",
                fix=f"microbatches={2 * self.pipeline}, or leave it out",
            )
        if self.pipeline > 1 and self.shard > 1:
            raise ConfigError(
                f"Layout(pipeline={self.pipeline}, shard={self.shard})",
                expected="one of them: a sharded stage would gather its parameters again for every micro-batch",
                fix=f"Layout(pipeline={self.pipeline}, data={self.shard}), or Layout(shard=…) without a pipeline",
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; `Layout(**that)` is the same."""
        return asdict(self)

    def sizes(self, world: int | None = None) -> dict[str, int]:
        """Axis → number of processes along it, in the order of `AXES`.

        Args:
            world: all processes; None: as torchrun says in WORLD_SIZE, else what the layout asks for.

        Raises:
            ConfigError: the layout is not of that many processes.
        """
        told = _whole("WORLD_SIZE") if world is None else world
        rest = self.shard * self.tensor * self.pipeline
        asked = f"Layout(data={self.data}, shard={self.shard}, tensor={self.tensor}, pipeline={self.pipeline})"
        if told is None and rest * (self.data or 1) > 1:
            processes = rest * (self.data or 1)
            raise ConfigError(
                f"{asked} in one process",
                expected=f"{processes} processes, each told its rank",
                fix=f"torchrun --nproc-per-node {processes} -m datapipe train …",
            )
        world = told or 1
        data = world // rest if self.data is None else self.data
        if data * rest != world or not data:
            raise ConfigError(
                f"{asked} on {world} processes",
                expected=f"{self.data * rest} processes" if self.data else f"a multiple of {rest} processes",
                fix=f"torchrun --nproc-per-node {max(1, data) * rest}, or numbers whose product is {world}",
            )
        of = {"pipeline": self.pipeline, "data": data, "shard": self.shard, "tensor": self.tensor}
        return {axis: of[axis] for axis in AXES}

    def place(self, rank: int | None = None, world: int | None = None) -> dict[str, int]:
        """Axis → this process's coordinate on it.

        Args:
            rank: of all processes; None: as torchrun says in RANK, else 0.

        Raises:
            ConfigError: as `sizes`; or the rank is not among them.
        """
        sizes = self.sizes(world)
        number = (_whole("RANK") or 0) if rank is None else rank
        total = math.prod(sizes.values())
        if not 0 <= number < total:
            raise ConfigError(
                f"rank {number} of {total} processes",
                expected=f"0 to {total - 1}",
                fix="RANK and WORLD_SIZE as torchrun sets them, or neither",
            )
        found = {}
        for axis in reversed(AXES):
            number, found[axis] = divmod(number, sizes[axis])
        return {axis: found[axis] for axis in AXES}

    def data_rank(self, rank: int | None = None, world: int | None = None) -> int:
        """Which share of the batches this process reads, as `DataLoader(rank=…)` wants it; errors as `place`."""
        place = self.place(rank, world)
        return place["data"] * self.shard + place["shard"]

    def data_size(self, world: int | None = None) -> int:
        """How many shares there are, as `DataLoader(world_size=…)` wants it; errors as `sizes`."""
        sizes = self.sizes(world)
        return sizes["data"] * sizes["shard"]


def layout_of(told: Any) -> Layout:
    """A layout, or the one that a mapping of its numbers means.

    Raises:
        ConfigError: it is neither; the message names what is unknown.
    """
    if isinstance(told, Layout):
        return told
    if not isinstance(told, Mapping):
        raise ConfigError(f"layout={told!r}", expected="a Layout, or a mapping of its numbers", fix="layout={data: 2}")
    known = [each.name for each in fields(Layout)]
    for name in told:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            raise ConfigError(
                f"layout has {name!r}", expected=f"one of {', '.join(known)}", fix=f"{near[0]}: …" if near else None
            )
    return Layout(**told)


def _whole(name: str) -> int | None:
    """A variable of the environment that torchrun sets."""
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal():
        raise ConfigError(
            f"{name}={text!r} in the environment",
            expected="a whole number, as torchrun sets it",
            fix=f"start with torchrun, or unset {name}",
        )
    return int(text)
