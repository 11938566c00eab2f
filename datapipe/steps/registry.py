"""Every step by name, and the way from a name and plain options to a step that runs.

What enters: a step's name as a recipe writes it. What leaves: its spec, or the step bound to its options.
Invariant: importing this imports no Arrow, polars or tokenizer; a spec's name is its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError
from datapipe.steps import (
    audio_check,
    audio_convert,
    audio_decode,
    audio_windows,
    augment_audio,
    augment_text,
    blocklist,
    boilerplate,
    c4,
    categories,
    decode,
    decontaminate,
    exact_duplicates,
    fineweb,
    gopher_quality,
    gopher_quality_datatrove,
    gopher_repetition,
    html_to_text,
    image_check,
    image_duplicates,
    image_pixels,
    image_resize,
    join,
    language,
    log_mel,
    mix,
    near_duplicates,
    normalise,
    pack,
    pii,
    repeated_lines,
    repeated_paragraphs,
    safety_score,
    sample,
    schema_cast,
    shuffle_rows,
    sort_rows,
    spec_augment,
    split,
    tokenize_text,
    unicode,
    url_filter,
    vocabulary,
)
from datapipe.steps.options import nearest, options_from, plain_options
from datapipe.steps.user_steps import SOURCE, is_user_step, user_spec

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from datapipe.steps.step import Keys, Step, StepSpec

_HOMES: Final = (
    decode,
    schema_cast,
    html_to_text,
    unicode,
    boilerplate,
    language,
    sample,
    gopher_quality,
    gopher_quality_datatrove,
    gopher_repetition,
    c4,
    fineweb,
    url_filter,
    blocklist,
    safety_score,
    pii,
    decontaminate,
    exact_duplicates,
    near_duplicates,
    repeated_paragraphs,
    repeated_lines,
    image_check,
    image_duplicates,
    mix,
    augment_text,
    join,
    split,
    normalise,
    categories,
    sort_rows,
    shuffle_rows,
    image_resize,
    image_pixels,
    vocabulary,
    tokenize_text,
    pack,
    audio_check,
    audio_convert,
    audio_decode,
    augment_audio,
    log_mel,
    spec_augment,
    audio_windows,
)

REGISTRY: Final[Mapping[str, StepSpec]] = MappingProxyType({home.SPEC.name: home.SPEC for home in _HOMES})
"""Step specs by name, in the order of the built-in text recipe."""


@final
@dataclass(frozen=True, kw_only=True)
class BoundStep:
    """A step with its options: what `run_steps` and the loader's transform take. Picklable; callable like its step."""

    spec: StepSpec
    options: Any
    step: Step

    @property
    def name(self) -> str:
        """The step's name in the registry."""
        return self.spec.name

    def __call__(self, table: pa.Table, keys: Keys) -> pa.Table:
        """The step itself: marked rows are still there."""
        return self.step(table, keys)

    def __reduce__(self) -> tuple[object, ...]:
        # By name and plain values: a worker builds the step from its own registry.
        return (bind, (self.spec.name, plain_options(self.options)))


def find_step(name: str, *, folder: str | Path | None = None) -> StepSpec:
    """The spec of a step.

    Args:
        name: as in the registry; "file.py:function" and "package.module:function" are a user's own (`user_steps`).
        folder: what the path of a user's file is relative to; None: the working folder.

    Raises:
        ConfigError: no step has that name; the message holds the nearest one.
    """
    if isinstance(name, str) and is_user_step(name):
        return user_spec(name, folder=folder)
    spec = REGISTRY.get(name) if isinstance(name, str) else None
    if spec is None:
        raise ConfigError(
            f"there is no step {name!r}",
            expected=f"one of {', '.join(REGISTRY)}",
            fix=nearest(str(name), REGISTRY),
        )
    return spec


def bind(name: str, options: Mapping[str, Any] | Any = None) -> BoundStep:
    """A step ready to run.

    Args:
        name: as in the registry.
        options: plain values by option name, an instance of the step's options dataclass, or None for the defaults.

    Raises:
        ConfigError: an unknown step or option, a value of another type or out of range.
    """
    if is_user_step(name) and isinstance(options, Mapping) and SOURCE in options:
        spec = user_spec(name, source=options[SOURCE])
    else:
        spec = find_step(name)
    if not isinstance(options, spec.options):
        options = options_from(spec, options or {})
    return BoundStep(spec=spec.resolved(options), options=options, step=spec.build(options))


def sieve_of(step: BoundStep) -> BoundStep | None:
    """The step that marks the rows of which `step` would make none, under its name; None where it makes some of all."""
    if step.spec.sieve is None:
        return None
    return BoundStep(
        spec=replace(step.spec, kind="map", gives=(), sieve=None),
        options=step.options,
        step=step.spec.sieve(step.options),
    )
