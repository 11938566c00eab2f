"""`datapipe selftest`: the cases run, graded, printed; exit 1 where a gate is missed.

What enters: how many cases, and how much time. What leaves: the table of gates, and a JSON file with every case, misses
included, that a later run can go on with.
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
    from datapipe.cli.selftest.grade_file import Grades
    from datapipe.cli.selftest.grading import Gate, Outcome
    from datapipe.cli.selftest.pipeline import Bench

FULL: Final = 105
"""Seven of each fault: about 9 minutes on a quiet machine, and up to 25 where runs have to be repeated."""
QUICK: Final = 15
"""One of each: under a minute on a quiet machine."""
_QUICK_STEPS: Final = 0.5
_QUIET_NS: Final = 300_000
"""A machine that wakes threads later than this is busy with other things: its runs differ by more than the gates."""


def selftest(
    quick: Annotated[
        bool, typer.Option("--quick", help="One case of each fault, shorter, run once: under a minute.")
    ] = False,
    cases: Annotated[int | None, typer.Option(help="So many cases instead.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Which cases are generated.")] = 0,
    seconds: Annotated[
        float | None, typer.Option(help="Begin no case after so many seconds: --resume goes on.", min=1)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --output holds.")] = False,
    scale: Annotated[
        float, typer.Option(help="Make every injected time so many times as long: for a busy machine.", min=0.1)
    ] = 1.0,
    fault: Annotated[list[str] | None, typer.Option(help="Only this fault (may be repeated).")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where every grade goes, as JSON, after each case.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put known faults into a real pipeline and grade the profiler on what it says of them; exit 1 on a missed gate.

    Truth comes from running the pipeline with each fault made smaller, and with each fix. It measures time, so it
    wants a quiet machine: what the same pipe's runs differ by, and the grades of the cases in which other programs
    hardly ran, are printed beside the gates.

    Example: datapipe selftest --quick -o grades.json
    """
    from datapipe.cli.selftest.cases import cases as generate
    from datapipe.cli.selftest.grade_file import Grades, Wanted, load_grades
    from datapipe.cli.selftest.machine_load import lateness_ns
    from datapipe.cli.selftest.pipeline import Bench
    from datapipe.cli.selftest.trial import outcome_of
    from datapipe.errors import ConfigError

    if resume and output is None:
        raise ConfigError("--resume without --output", fix="name the file that holds the grades: -o grades.json")
    count, steps = cases or (QUICK if quick else FULL), _QUICK_STEPS if quick else 1.0
    wanted = Wanted(seed=seed, scale=scale, steps=steps, faults=tuple(fault or ()))
    grades = load_grades(output, wanted) if resume and output is not None else Grades(wanted=wanted)
    began, before = time.monotonic(), grades.seconds
    graded = {outcome.name for outcome in grades.outcomes}

    def spent() -> float:
        return time.monotonic() - began

    def again() -> bool:
        """Whether there is time for one more round: the cases are ahead of the clock."""
        return not quick and (seconds is None or spent() / seconds <= len(grades.outcomes) / count)

    with tempfile.TemporaryDirectory(prefix="datapipe-selftest-") as folder:
        bench = Bench(Path(folder))
        for case in generate(count, seed, scale=scale, steps=steps, faults=fault or ()):
            if seconds is not None and spent() >= seconds:
                break
            if case.name in graded:
                continue
            if not grades.leaks:
                _beside(grades, bench, Path(folder), quick=quick)
            grades.outcomes.append(outcome_of(bench, case, again))
            grades.late.append(lateness_ns())
            grades.seconds = before + spent()
            _write(grades, count, output)
            console.say(f"{len(grades.outcomes)}/{count} {_line(grades.outcomes[-1])}")
    found = _write(grades, count, output)
    if json:
        console.emit(found)
    else:
        _show(grades, found)
    if not found["ok"]:
        raise typer.Exit(1)


def _beside(grades: Grades, bench: Bench, folder: Path, *, quick: bool) -> None:
    """What is graded apart from the cases: overhead, slow ranks, leaks."""
    from datapipe.cli.selftest.leaks import leak_trials
    from datapipe.cli.selftest.slow_rank import slow_ranks
    from datapipe.cli.selftest.trial import overhead_of

    wanted = grades.wanted
    grades.overhead = overhead_of(bench, pairs=3 if quick else 15)
    grades.ranks = slow_ranks(folder, 1 if quick else 7, seed=wanted.seed, scale=wanted.scale)
    grades.leaks = leak_trials(bench, 1 if quick else 3)


def _write(grades: Grades, count: int, output: Path | None) -> dict[str, Any]:
    """The grades as one object, in the file too."""
    from datapipe.cli.selftest.grading import delay_error, grade, noise_floor, worst

    kept = grades.outcomes
    gates = grade(kept, grades.overhead, grades.ranks, grades.leaks)
    quiet = grade([outcome for outcome in kept if outcome.quiet], {})
    late = sorted(grades.late) or [0.0]
    found: dict[str, Any] = {
        "ok": all(gate.passed for gate in gates) and len(kept) >= count, "cases": count, "graded": len(kept),
        "cpus": os.cpu_count(), "late_ns": {"median": late[len(late) // 2], "worst": late[-1]},
        "busy": late[len(late) // 2] > _QUIET_NS, "noise": noise_floor(kept), "delay_error": delay_error(kept),
        "quiet": sum(outcome.quiet for outcome in kept),
        "gates": [_gate(gate) for gate in gates], "gates_when_quiet": [_gate(gate) for gate in quiet if gate.count],
        "worst": [{"case": name, **asdict(asked)} for name, asked in worst(kept)], **grades.as_dict(),
    }  # fmt: skip
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = output.with_name(f".{output.name}.{os.getpid()}")
        beside.write_text(json_format.dumps(found, indent=1) + "\n", encoding="utf-8")
        beside.replace(output)
    return found


def _gate(gate: Gate) -> dict[str, Any]:
    return {**asdict(gate), "bounds": gate.bounds, "passed": gate.passed}


def _show(grades: Grades, found: dict[str, Any]) -> None:
    when_quiet = {gate["measure"]: gate for gate in found["gates_when_quiet"]}
    for gate in found["gates"]:
        value = "nothing graded" if gate["value"] is None else f"{gate['value']:.2%}"
        passed = "passed" if gate["passed"] else "MISSED"
        line = f"{passed}  {gate['measure']}: {value} ({gate['bounds']}), n={gate['count']}"
        quiet = when_quiet.get(gate["measure"])
        if quiet is not None and 0 < found["quiet"] < found["graded"]:
            line += f"; when quiet {quiet['value']:.2%}, n={quiet['count']}"
        console.show(line)
    if found["delay_error"] is not None:
        console.show(f"Delays are charged {found['delay_error']:.1%} off what they add (median)")
    if found["noise"]:
        noise = found["noise"]
        console.show(
            f"Noise of the truth (the same pipe run twice): median {noise['median']:.2%}, p95 {noise['p95']:.2%}"
        )
    if found["busy"] or found["quiet"] < found["graded"]:
        late = found["late_ns"]["median"] / 1e6
        console.show(
            f"This machine is busy: it wakes threads {late:.1f} ms late, and other programs ran during"
            f" {found['graded'] - found['quiet']} of {found['graded']} cases. Repeat on a quiet one before judging."
        )
    console.show(f"{found['graded']} of {found['cases']} cases in {grades.seconds:.0f} s")


def _line(outcome: Outcome) -> str:
    errors = ", ".join(f"{each.kind} {each.error:.0%}" for each in outcome.asked)
    true = "/".join(sorted(outcome.bottlenecks)) or "none"
    noise = "" if outcome.noise is None else f"; noise {outcome.noise:.0%}"
    return (
        f"{outcome.name}: {outcome.step_ns / 1e6:.1f} ms; named {outcome.named}, true {true};"
        f" what-if off by: {errors}{noise}"
    )
