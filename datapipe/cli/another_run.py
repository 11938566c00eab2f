"""A script profiled again with something changed, beside the first profile of it: `--apply`.

What enters: the folder of a profile, and the command line that made it. What leaves: the profile of the second run, in
a folder inside the first, and the prediction beside what was measured.
Invariant: the second run is a process of its own, begun as the first was, with the script's own arguments; nothing but
the loader's options differs.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import ProfileError
from datapipe.profiling.advice import Applied, Fix
from datapipe.profiling.comparison import compare
from datapipe.profiling.profile_file import load_profile, save_profile
from datapipe.profiling.report import write_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

APPLIED: Final = "applied"
"""The second profile's folder, inside the first."""


@final
@dataclass(frozen=True, kw_only=True)
class Command:
    """The script and its arguments, and where its first profile went."""

    script: str
    arguments: Sequence[str]
    module: bool
    folder: Path

    def again(self, name: str, options: Sequence[str]) -> Path:
        """Run it once more under `datapipe profile`, with further options of that; the folder of its profile.

        What it prints goes where the first run's went to.

        Raises:
            ProfileError: it ended in an error.
        """
        folder = self.folder / name
        line = [sys.executable, "-m", "datapipe", "profile", "--quiet", "--report-only", "-o", str(folder), *options]
        line += ["-m"] * self.module + [self.script, *self.arguments]
        sys.stdout.flush()
        ended = subprocess.run(line, check=False)  # noqa: S603  (the user's own script)
        if ended.returncode:
            raise ProfileError(
                f"the script ended with code {ended.returncode} when run again with {' '.join(options)}",
                expected="code 0, as in the first run",
                fix="look at its output above; the first profile stands as it is",
            )
        return folder


def apply_best(command: Command) -> Applied | None:
    """Run the best fix that needs no edit, and keep what came of it in the first profile; None where there is none.

    Raises:
        ProfileError: the script failed with it, or a profile cannot be read or written.
    """
    before = load_profile(command.folder)
    fix = None if before.advice is None else before.advice.applicable
    if before.advice is None or fix is None:
        return None
    options = [text for name, value in fix.options.items() for text in ("--loader-option", f"{name}={value}")]
    done = _beside(fix, command.folder, command.again(APPLIED, options))
    advice = replace(before.advice, applied=(*before.advice.applied, done))
    shown = replace(before, advice=advice)
    save_profile(shown, command.folder)
    write_report(shown, command.folder)
    return done


def _beside(fix: Fix, before: Path, after: Path) -> Applied:
    step = compare(before, after).step
    return Applied(
        title=fix.title, options=fix.options, recorded_ns=step.before, predicted_ns=fix.step_ns, low=fix.low,
        high=fix.high, measured_ns=step.after, inside=fix.low <= step.after <= fix.high,
        error=fix.step_ns / step.after - 1, p=step.p,
    )  # fmt: skip
