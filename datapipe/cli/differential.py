"""`datapipe profile --differential`: the script run again as it is, on batches in memory, and its loader alone.

What enters: the command line of a profile, and its folder. What leaves: short runs by turns, each a process of its own
with a profile of its own inside that folder, and what they say together in the first profile.
Invariant: the script is not edited, and nothing but where its batches come from differs between the runs; what a run
prints is kept in its folder; a run that fails or hangs is named in the result and ends nothing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datapipe.cli import console
from datapipe.errors import ProfileError
from datapipe.profiling.differential import differential, left_out
from datapipe.profiling.profile_file import load_profile, save_profile
from datapipe.profiling.report import write_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.cli.another_run import Command
    from datapipe.profiling.summary import Summary

FOLDER: Final = "differential"
ROUNDS: Final = 2
"""Runs of each kind: two show by how much one kind differs from itself."""
STEPS: Final = 100
"""Of the first run, which says how many the others have: `_enough`."""
_MOST: Final = 2_000
_LONG: Final = 3.0
"""Seconds that a run's steps should last together: shorter ones say more about the machine than about the script."""
_ORDER: Final = (("as-is", "cached", "synthetic", "loader"), ("loader", "synthetic", "cached", "as-is"))
"""The order of the rounds, there and back: what drifts meets all kinds alike."""
_PATIENCE: Final = 5.0
"""Times the first run's length, and a minute, after which a run is ended."""


def run_differential(command: Command, *, steps: int | None, scratch: bool, quiet: bool) -> None:
    """Run the script in each way, and keep what came of it in its first profile.

    Args:
        command: the script, and the folder of its first profile.
        steps: after how many each run ends; None: after as many as last three seconds, 100 to 2,000.
        scratch: run in an empty folder with links to what lies in this one.
        quiet: say nothing while it runs.

    Raises:
        ProfileError: a profile cannot be read or written.
    """
    from datapipe.integrations.stand_ins import CACHED

    steps = steps or _enough(load_profile(command.folder))
    runs: dict[str, list[Summary]] = {}
    failed: dict[str, str] = {}
    longest: float | None = None
    for place in range(ROUNDS):
        for mode in _ORDER[place % 2]:
            if mode in failed:
                continue
            if not quiet:
                console.say(f"  differential: round {place + 1} of {ROUNDS}, {mode}")
            folder = command.folder / FOLDER / f"{place + 1}-{mode}"
            began = time.monotonic()
            reason = _run(command, mode, folder, steps=steps, scratch=scratch, patience=longest)
            longest = max(longest or 0.0, time.monotonic() - began)
            if reason:
                failed[mode] = reason
                continue
            runs.setdefault(mode, []).append(load_profile(folder))
    cached = max(1, min(CACHED, steps // 4))
    found = differential(runs, failed, rounds=ROUNDS, steps=steps, skip=left_out(_fewest(runs, steps), cached))
    shown = replace(load_profile(command.folder), differential=found)
    save_profile(shown, command.folder)
    write_report(shown, command.folder)


def _enough(first: Summary) -> int:
    each = 0.0 if first.step is None else first.step.mean / 1e9
    return STEPS if each <= 0 else max(STEPS, min(_MOST, round(_LONG / each)))


def _fewest(runs: dict[str, list[Summary]], steps: int) -> int:
    """Steps of the shortest run: a script may end before it is ended."""
    return min((run.series.count for found in runs.values() for run in found), default=steps)


def _run(command: Command, mode: str, folder: Path, *, steps: int, scratch: bool, patience: float | None) -> str:
    """One run; why it came to nothing, "" where it did not."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        (folder / "profile.json").unlink()
    said = folder / "output.txt"
    script = command.script if command.module else str(Path(command.script).resolve())
    line = [
        sys.executable, "-m", "datapipe", "profile", "--quiet", "--report-only", "--brief", "--steps", str(steps),
        "--stand-in", mode, "-o", str(folder.resolve()), *["-m"] * command.module, script, *command.arguments,
    ]  # fmt: skip
    limit = None if patience is None else 60.0 + _PATIENCE * patience
    with said.open("wb") as output, _working(scratch=scratch) as place:
        # Python puts the working folder first for `-m datapipe`; the script's own first folder is set by `profile`.
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place)  # noqa: S603  (the user's own script)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            return f"it did not end within {limit:.0f} s (its output: {said})"
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code or not (folder / "profile.json").is_file():
        return f"it ended with code {code} (its output: {said})"
    return ""


@contextlib.contextmanager
def _working(*, scratch: bool) -> Iterator[Path | None]:
    """The folder to run in: this one, or an empty one with links to everything in it, removed afterwards."""
    if not scratch:
        yield None
        return
    try:
        held = tempfile.TemporaryDirectory(prefix="datapipe-scratch-")
    except OSError as error:
        raise ProfileError(f"no folder to run in: {error}", fix="leave out --scratch, or set TMPDIR") from error
    with held as name:
        for entry in os.scandir():
            (Path(name) / entry.name).symlink_to(Path(entry.path).resolve(), target_is_directory=entry.is_dir())
        yield Path(name)
