r"""repeated_paragraphs: paragraphs that the corpus has twice are kept where they occur first (`repeated_text`).

Paragraphs are parted by an empty line ("\n\n").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.steps.repeated_text import RepeatedTextOptions, built, spec_of

if TYPE_CHECKING:
    from datapipe.steps.step import Step

NAME: Final = "repeated_paragraphs"


def build(options: RepeatedTextOptions) -> Step:
    """The step with its options bound."""
    return built(options, NAME)


SPEC: Final = spec_of(NAME, build, "paragraphs that occur more than once in the corpus are kept once")
