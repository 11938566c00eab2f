"""`datapipe selftest`: the cases run, graded, printed; exit 1 where a gate is missed.

What enters: how many cases. What leaves: the table of gates, and a JSON file with every case, misses included.
"""

from __future__ import annotations

import json as json_format
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption

if TYPE_CHECKING:
    from datapipe.cli.selftest.grading import Gate, Outcome

FULL: Final = 105
"""Seven of each fault: 10 to 20 minutes."""
QUICK: Final = 15
"""One of each: under a minute on a quiet machine."""
_QUIET_NS: Final = 300_000
"""A machine that wakes threads later than this is busy with other things: its runs differ by more than the gates."""


def selftest(
    quick: Annotated[bool, typer.Option("--quick", help="One case of each fault, run once: under a minute.")] = False,
    cases: Annotated[int | None, typer.Option(help="So many cases instead.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Which cases are generated.")] = 0,
    scale: Annotated[
        float, typer.Option(help="Make every injected time so many times as long: for a busy machine.", min=0.1)
    ] = 1.0,
    fault: Annotated[list[str] | None, typer.Option(help="Only this fault (may be repeated).")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where every grade goes, as JSON.")] = None,
    json: JsonOption = False,
) -> None:
    """Put known faults into a real pipeline and grade the profiler on what it says of them; exit 1 on a missed gate.

    Truth comes from running the pipeline with each fault made smaller, and with each fix. It measures time, so it
    wants a quiet machine, and says where it had none.

    Example: datapipe selftest --quick -o grades.json
    """
    from datapipe.cli.selftest.cases import cases as generate
    from datapipe.cli.selftest.grading import grade
    from datapipe.cli.selftest.pipeline import Bench
    from datapipe.cli.selftest.slow_rank import slow_ranks
    from datapipe.cli.selftest.trial import lateness_ns, outcome_of, overhead_of

    began, outcomes = time.monotonic(), []
    late = [lateness_ns()]
    count = cases or (QUICK if quick else FULL)
    with tempfile.TemporaryDirectory(prefix="datapipe-selftest-") as folder:
        bench = Bench(Path(folder))
        for case in generate(count, seed, scale=scale, faults=fault or ()):
            outcomes.append(outcome_of(bench, case, rounds=1 if quick else 2))
            late.append(lateness_ns())
            console.say(f"{len(outcomes)}/{count} {_line(outcomes[-1])}")
        overhead = overhead_of(bench, pairs=3 if quick else 15)
        ranks = slow_ranks(Path(folder), 1 if quick else 7, seed=seed, scale=scale)
    gates = grade(outcomes, overhead, ranks)
    missed = [gate for gate in gates if not gate.passed]
    late.sort()
    found: dict[str, Any] = {
        "ok": not missed, "seed": seed, "scale": scale, "cases": count, "seconds": round(time.monotonic() - began, 1),
        "cpus": os.cpu_count(), "late_ns": {"median": late[len(late) // 2], "worst": late[-1]},
        "busy": late[len(late) // 2] > _QUIET_NS,
        "gates": [{**asdict(gate), "bounds": gate.bounds, "passed": gate.passed} for gate in gates],
        "overhead": overhead, "ranks": ranks, "outcomes": [asdict(outcome) for outcome in outcomes],
    }  # fmt: skip
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json_format.dumps(found, indent=1) + "\n", encoding="utf-8")
    if json:
        console.emit(found)
    else:
        _show(gates, found)
    if missed:
        raise typer.Exit(1)


def _show(gates: tuple[Gate, ...], found: dict[str, Any]) -> None:
    for gate in gates:
        value = "nothing graded" if gate.value is None else f"{gate.value:.2%}"
        console.show(
            f"{'passed' if gate.passed else 'MISSED'}  {gate.measure}: {value} ({gate.bounds}), n={gate.count}"
        )
    if found["busy"]:
        late = found["late_ns"]["median"] / 1e6
        console.show(
            f"This machine is busy: it wakes threads {late:.1f} ms late. Repeat on a quiet one before judging."
        )
    console.show(f"{found['cases']} cases in {found['seconds']:.0f} s")


def _line(outcome: Outcome) -> str:
    errors = ", ".join(f"{each.error:.0%}" for each in outcome.asked)
    true = "/".join(sorted(outcome.bottlenecks)) or "none"
    return (
        f"{outcome.name}: {outcome.step_ns / 1e6:.1f} ms; named {outcome.named}, true {true}; what-if off by {errors}"
    )
