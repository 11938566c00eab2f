"""A slow rank among several: processes that meet after every step, one of them late; is it the one that is named?

What enters: how many trials, and a seed. What leaves: per trial the rank that was made slow and the one that was named.
Invariant: the ranks are processes with profiles of their own; all they share is the meeting.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final

from datapipe.cli.selftest.pipe import Pipe

if TYPE_CHECKING:
    from pathlib import Path

    from datapipe.profiling.summary import Summary

RANKS: Final = 3
_PATIENCE: Final = 60.0
"""Seconds until a meeting is given up: a rank that died would keep the others for ever."""


def slow_ranks(folder: Path, trials: int, *, seed: int = 0, scale: float = 1.0) -> list[tuple[int, int | None]]:
    """Run the trials: (the rank that was slow, the first straggler named or None) of each."""
    chance = random.Random(seed)  # noqa: S311  (cases, not secrets)
    found: list[tuple[int, int | None]] = []
    for _ in range(trials):
        slow, where = chance.randrange(RANKS), chance.choice(("transform", "device"))
        plain = Pipe(steps=40, transform="sleep", transform_ms=4.0, device_ms=chance.uniform(8, 14)).scaled(scale)
        late = plain.faster(
            "transform" if where == "transform" else "forward", 1 / (6.0 if where == "transform" else 1.6)
        )
        named = _named([late if rank == slow else plain for rank in range(RANKS)], folder)
        found.append((slow, named))
    return found


def _named(pipes: list[Pipe], folder: Path) -> int | None:
    """The first straggler, as the profiles of one process per pipe say."""
    import multiprocessing

    from datapipe.cli.selftest.pipeline import Bench
    from datapipe.profiling.merging import side_by_side

    Bench(folder).files(pipes[0])  # made once, before the ranks would
    context = multiprocessing.get_context("spawn")
    meeting, results = context.Barrier(len(pipes)), context.SimpleQueue()
    ranks = [
        context.Process(target=run_rank, args=(rank, pipe, str(folder), meeting, results), daemon=True)
        for rank, pipe in enumerate(pipes)
    ]
    for rank in ranks:
        rank.start()
    summaries: dict[int, Summary] = dict(results.get() for _ in ranks)
    for rank in ranks:
        rank.join()
    stragglers = side_by_side(summaries, len(pipes)).stragglers
    return stragglers[0] if stragglers else None


def run_rank(rank: int, pipe: Pipe, folder: str, meeting: Any, results: Any) -> None:
    """One rank: its own loader and device, then the meeting; puts (rank, summary)."""
    import contextlib
    from pathlib import Path

    import datapipe
    from datapipe.cli.selftest.pipeline import Bench

    with contextlib.closing(Bench(Path(folder)).loader(pipe)) as loader, datapipe.profile() as prof:
        meeting.wait(_PATIENCE)
        for _ in prof.steps(loader):
            with prof.phase("forward"):
                time.sleep(pipe.device_ms / 1e3)
            with prof.phase("communication"):
                meeting.wait(_PATIENCE)
    results.put((rank, prof.summary()))
