"""One sentence on where the time goes, and what it rests on.

What enters: the steady step's parts, the wait split, the critical path. What leaves: a `Verdict`.
Invariant: the kind follows from the input share alone; an input-bound run is named by its critical path, a healthy one
by the largest part of its step; too few steps are said to be too few.

Thresholds (5% and 20% of the step) are TensorFlow Profiler's (input-pipeline analyzer: host wait plus
host-to-device copy over step time). Wait that a busy device hides is no stall and is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.profiling.summary import Part, Verdict
from datapipe.profiling.waits import QUEUE, UNSEEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datapipe.profiling.lock_waits import LockWait

MODERATE: Final = 0.05
HIGH: Final = 0.20
ENOUGH_STEPS: Final = 10
"""Fewer steady steps than this are not judged."""
_NEAR: Final = 0.9
"""A stage with this much of the bottleneck's share is a co-bottleneck: near-ties swap places from run to run."""
_UNEVEN: Final = 1.5
_SPOKEN: Final = {
    UNSEEN: "the loader (its inside is not recorded)",
    QUEUE: "handing batches over",
    "other": "code in the step that no phase names",
    "h2d": "the copy to the device",
    "gather": "gathering rows into batches",
    "dataset": "the dataset’s own code (reading, decoding, augmenting)",
    "fetch": "fetching (reading bytes)",
    "decode": "decoding",
    "decompress": "decompressing",
    "worker start": "starting worker processes",
    "transform": "the transform",
    "collate": "collating",
    "pin": "pinning memory",
    "forward": "the forward pass",
    "backward": "the backward pass",
    "optimizer": "the optimizer",
    "communication": "communication",
    "checkpoint": "checkpointing",
    "evaluate": "evaluation",
    "sync": "the device (the host waits for it in “sync”)",
}


def spoken(name: str) -> str:
    """A stage or part in words."""
    return _SPOKEN.get(name, f"“{name}”")


def judge(
    step: Part | None,
    parts: Sequence[Part],
    waits: Sequence[Part],
    path: Mapping[str, int],
    *,
    hidden: float,
    steady: int,
    device: Sequence[Part] = (),
    lock_waits: Sequence[LockWait] = (),
) -> Verdict:
    """The verdict on one run.

    Args:
        step: the steady step, or None where there was none.
        parts: its parts.
        waits: its wait by stage.
        path: critical path, ns per stage.
        hidden: mean ns per step of wait during which the device was busy.
        steady: how many steady steps there were.
        device: the step as the device ran it, "busy" last.
        lock_waits: what parts of the step waited for Python's lock while the loader held it: its doing as well.
    """
    if step is None or step.mean <= 0:
        hint = "Wrap the loop's batches in prof.steps(...), or run a script that iterates a loader."
        sentence = "No steps were recorded, so there is nothing to judge."
        return Verdict(kind="no steps", sentence=sentence, input_share=0.0, bottleneck=None, evidence=(hint,))
    means = {part.name: part.mean for part in parts}
    seen = any(part.name not in (UNSEEN, QUEUE) and part.mean > 0 for part in waits)
    wait, copy = means.get("wait", 0.0), means.get("h2d", 0.0)
    locked = sum(each.mean for each in lock_waits)
    share = max(0.0, wait - hidden + copy + locked) / step.mean
    evidence = _evidence(step, waits, path, wait=wait, copy=copy, hidden=hidden, steady=steady)
    if locked > 0:
        listed = ", ".join(f"{each.part} {ms(each.mean)}" for each in lock_waits)
        holder = spoken(lock_waits[0].stage)
        evidence += (f"Waiting for Python's lock while {holder} held it: {ms(locked)} a step (estimated: {listed}).",)
    if device:
        listed = ", ".join(f"{part.name} {ms(part.mean)}" for part in device[:-1])
        evidence += (f"The device was busy {device[-1].share:.0%} of the step: {listed}.",)
    bound = share >= MODERATE
    compute = {name: mean for name, mean in means.items() if name not in ("wait", "h2d")}
    if bound:  # which stage of the input to mend, whatever the largest part of the step may be
        ranked = [(name, float(ns)) for name, ns in path.items() if name not in compute]
    else:  # which part of the step bounds it
        ranked = sorted(compute.items(), key=lambda pair: -pair[1])
    bottleneck = ranked[0][0] if ranked else None
    also = tuple(name for name, ns in ranked[1:] if ns >= _NEAR * ranked[0][1])
    if steady < ENOUGH_STEPS:
        kind = "too few steps"
        sentence = (
            f"Too few steps to judge: {steady} steady, at least {ENOUGH_STEPS} are needed;"
            f" so far {share:.0%} of the step goes into waiting for data."
        )
    elif share >= MODERATE:
        kind = "input-bound" if share >= HIGH else "moderately input-bound"
        named = _named(bottleneck, also, path, "the input's bottleneck is", "the critical path")
        if seen:
            named = named.replace(_SPOKEN[UNSEEN], "the loader, outside its recorded stages")
        sentence = f"{kind.capitalize()}: {share:.0%} of each step waits for data or copies it; {named}."
    else:
        kind = "not input-bound"
        named = _named(bottleneck, also, means, "it is bound by", "the step")
        sentence = f"Healthy: the loader keeps up, {share:.1%} of each step goes into input; {named}."
        first = next(iter(path), None)
        if first is not None and first not in compute:
            sentence += f" There is little headroom: {spoken(first)} is nearly as slow as the step."
    return Verdict(kind=kind, sentence=sentence, input_share=share, bottleneck=bottleneck, also=also, evidence=evidence)


def _evidence(
    step: Part, waits: Sequence[Part], path: Mapping[str, int], *, wait: float, copy: float, hidden: float, steady: int
) -> tuple[str, ...]:
    times = f"median {ms(step.p50)}, 95th percentile {ms(step.p95)}"
    lines = [
        f"{steady:,} steady steps of {ms(step.mean)} on average ({times}).",
        f"Waiting for data: {ms(wait)} a step ({wait / step.mean:.1%}); copying to the device: {ms(copy)}.",
    ]
    if step.mean > _UNEVEN * step.p50:
        lines.append(f"Uneven: the mean is {step.mean / step.p50:.1f} times the median; a few slow steps decide it.")
    if hidden > 0:
        lines.append(f"{ms(hidden)} of the wait passed while the device was busy: hidden, so not counted.")
    largest = [part for part in sorted(waits, key=lambda part: -part.mean)[:3] if part.mean > 0]
    if largest:
        listed = ", ".join(f"{part.name} {ms(part.mean)}" for part in largest)
        lines.append(f"On the path while waiting: {listed}.")
    whole = sum(path.values()) or 1
    listed = ", ".join(f"{name} {ns / whole:.0%}" for name, ns in list(path.items())[:4] if ns / whole >= 0.005)
    if listed:
        lines.append(f"Critical path: {listed}.")
    return tuple(lines)


def _named(bottleneck: str | None, also: Sequence[str], sizes: Mapping[str, float], what: str, of: str) -> str:
    if bottleneck is None:
        return f"{what} could not be told"
    whole = sum(sizes.values()) or 1
    words = f"{what} {spoken(bottleneck)}, {sizes[bottleneck] / whole:.0%} of {of}"
    if also:
        words += f", with {' and '.join(spoken(name) for name in also)} close behind"
    return words


def ms(ns: float) -> str:
    """A duration in ms with three significant digits or so: '12.3 ms', '0.042 ms', '1,204 ms'."""
    value = ns / 1e6
    if abs(value) >= 100:
        return f"{value:,.0f} ms"
    if abs(value) >= 10:
        return f"{value:.1f} ms"
    return f"{value:.2f} ms" if abs(value) >= 1 else f"{value:.3f} ms"
