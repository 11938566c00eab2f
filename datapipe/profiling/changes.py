"""What could be changed about a run, and what the replay says would come of it.

What enters: the user's question ("the transform on twice the threads"). What leaves: a `Prediction`.
Invariant: a change that names a stage or a factor it cannot have is refused here, before anything is replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, final, get_args

from datapipe.errors import ProfileError

Kind = Literal[
    "threads", "workers", "prefetch", "cache warm", "storage", "latency", "offline", "decode", "row groups", "order",
    "device", "dtypes", "pinned", "faster",
]  # fmt: skip

STORAGE: Final = ("list", "footer", "fetch")
DECODING: Final = ("decompress", "decode")
COMPUTE: Final = ("forward", "backward", "optimizer")
MOVING: Final = ("gather", "collate", "pin", "h2d")
"""Stages whose time goes with the bytes that a dtype has."""
MOST: Final = 1e9
"""The largest factor, and one over the least: times what a run has it must still be a time."""
LONGEST: Final = 1e15
"""Ns; the longest latency."""


@final
@dataclass(frozen=True, kw_only=True)
class Change:
    """One change to a run.

    Attributes:
        kind: what is changed:
            "threads"     `factor` × the threads (or worker processes) that run `stage`, or all of the loader's
            "workers"     the same with processes: nothing waits for the interpreter lock of another
            "prefetch"    `factor` × the batches in the making ahead of the loop
            "cache warm"  every read takes what the reads marked as cache hits took
            "storage"     storage `factor` × faster (below 1: slower): the waiting of list, footer and fetch
            "latency"     `factor` ns more (or less) on every fetch
            "offline"     `stage` is done before the run
            "decode"      decompress and decode `factor` × faster: another codec, its cost scaled
            "row groups"  row groups `factor` × as large: a `factor`th of the requests, the same bytes
            "order"       relaxed order: the loop takes whichever batch is ready (`factor` is not used)
            "device"      forward, backward and optimizer `factor` × faster
            "dtypes"      gather, collate, pin and copy move 1/`factor` of the bytes
            "pinned"      the copy to the device `factor` × faster (pinned memory)
            "faster"      `stage` `factor` × faster, whatever it is
        stage: which stage, where the kind asks for one.
        factor: how much.

    Raises:
        ProfileError: a stage is missing, or the factor is none of 1 ÷ `MOST` to `MOST` (of a latency: ±`LONGEST`).
    """

    kind: Kind
    stage: str | None = None
    factor: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ProfileError(f"no such change: {self.kind!r}", expected=f"one of {', '.join(get_args(Kind))}")
        if self.kind in ("offline", "faster") and not self.stage:
            raise ProfileError(f"the change {self.kind!r} names no stage", fix='name it: stage="transform"')
        if self.kind == "latency" and not abs(self.factor) <= LONGEST:
            raise ProfileError(f"a latency of {self.factor:g} ns", expected=f"at most {LONGEST:g} ns")
        if self.kind != "latency" and not 1 / MOST <= self.factor <= MOST:
            raise ProfileError(f"factor {self.factor:g}", expected=f"a positive number, {1 / MOST:g} to {MOST:g}")

    def __str__(self) -> str:
        where = self.stage or "the loader"
        return {
            "threads": f"{self.factor:g}× the threads for {where}",
            "workers": f"{self.factor:g}× as many, in worker processes, for {where}",
            "prefetch": f"{self.factor:g}× the prefetch",
            "cache warm": "a warm cache",
            "storage": f"storage {self.factor:g}× faster",
            "latency": f"{self.factor / 1e6:+g} ms on every fetch",
            "offline": f"{where} done offline",
            "decode": f"decoding {self.factor:g}× cheaper",
            "row groups": f"row groups {self.factor:g}× as large",
            "order": "relaxed order",
            "device": f"a device {self.factor:g}× faster",
            "dtypes": f"dtypes {self.factor:g}× narrower",
            "pinned": f"pinned memory (copies {self.factor:g}× faster)",
            "faster": f"{where} {self.factor:g}× faster",
        }[self.kind]


@final
@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a change would do to the steady step.

    Attributes:
        change: what was asked.
        recorded_ns: mean steady step of the recording, ns.
        step_ns: the same with the change.
        low, high: 80% interval of `step_ns` for the same run done again with the change, on the same data.
        extrapolated: whether the answer rests on something this run never showed.
        reason: what it rests on, in words.
    """

    change: Change
    recorded_ns: float
    step_ns: float
    low: float
    high: float
    extrapolated: bool
    reason: str

    @property
    def gain(self) -> float:
        """The share of the step that the change saves (negative: it costs)."""
        return 1 - self.step_ns / self.recorded_ns if self.recorded_ns else 0.0

    def __str__(self) -> str:
        sure = "extrapolated: " if self.extrapolated else ""
        low, high = self.low / 1e6, self.high / 1e6
        step = f"{self.step_ns / 1e6:.3f} ms a step ({low:.3f} to {high:.3f})"
        return f"{self.change}: {step}, {-self.gain:+.1%}; {sure}{self.reason}"
