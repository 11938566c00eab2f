"""What was graded so far, in memory and in a JSON file, so that a selftest can stop and go on.

What enters: grades, one after the other. What leaves: the file, whole after each of them; and the same read back.
Invariant: what is resumed belongs to the same cases: the same seed, scale, steps and faults.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, final

from datapipe.cli.selftest.grading import Outcome  # pydantic resolves the fields when a file is read
from datapipe.errors import ConfigError


@final
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which cases: what a file that is resumed has to have in common with the run that resumes it."""

    seed: int
    scale: float
    steps: float
    faults: tuple[str, ...]


@final
@dataclass(kw_only=True)
class Grades:
    """What was graded.

    Attributes:
        wanted: which cases.
        outcomes: the cases. overhead, ranks, leaks: as `grading.grade` takes them.
        late: how late the machine woke threads meanwhile, ns.
        seconds: that it took, of every run that is in here.
    """

    wanted: Wanted
    outcomes: list[Outcome] = field(default_factory=list)
    overhead: dict[str, list[float]] = field(default_factory=dict)
    ranks: list[tuple[int, int | None]] = field(default_factory=list)
    leaks: list[tuple[bool, bool | None]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def load_grades(file: Path, wanted: Wanted) -> Grades:
    """Read grades back to go on with; none, where there is no such file.

    Raises:
        ConfigError: the file is damaged, or of other cases.
    """
    from pydantic import TypeAdapter, ValidationError

    if not file.exists():
        return Grades(wanted=wanted)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        kept = {each.name: data[each.name] for each in fields(Grades)}
        found = TypeAdapter(Grades).validate_python(kept)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ConfigError(
            f"{file} holds no grades to go on with: {type(error).__name__}", fix="leave out --resume"
        ) from None
    if found.wanted != wanted:
        raise ConfigError(
            f"{file} is of other cases: {asdict(found.wanted)}", expected=str(asdict(wanted)),
            fix="give the options it was begun with, or leave out --resume",
        )  # fmt: skip
    return found
