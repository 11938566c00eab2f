r"""repeated_lines: lines that the corpus has twice are kept where they occur first (`repeated_text`).

A line ends at "\n" alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.steps.repeated_text import RepeatedTextOptions, built, spec_of

if TYPE_CHECKING:
    from datapipe.steps.step import Step

NAME: Final = "repeated_lines"


def build(options: RepeatedTextOptions) -> Step:
    """The step with its options bound."""
    return built(options, NAME)


SPEC: Final = spec_of(NAME, build, "lines that occur more than once in the corpus are kept once")
