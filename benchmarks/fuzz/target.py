"""What a fuzz target is: seeds that are valid, and a check that gets any bytes whatever.

Invariant of every check: it returns, or raises an error of `datapipe.errors`. Anything else is a finding: another
error, a promise that its assertions name, a process that dies, an input that takes more than `CPU_SECONDS`, or one for
which memory grows by more than `memory_mib`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mutations import plain_mutation

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

CPU_SECONDS: Final = 10.0
"""Of one input of at most MOST_BYTES; the slowest reader does a megabyte in less than one."""
MOST_BYTES: Final = 1 << 16

_HELD: Final = {
    "metadata_targets": ("manifest", "snapshots", "recipe", "state", "profile", "spans", "trace", "tokenizer"),
    "text_targets": ("jsonl", "json", "csv", "document", "html", "charset", "gzip", "zstd"),
    "columnar_targets": (
        "parquet", "parquet_dataset", "arrow", "arrow_stream", "arrow_dataset", "arrow_footer", "parquet_pages",
        "byte_ranges",
    ),
    "run_targets": ("run_index",),
    "media_targets": ("image", "audio", "tar", "media_parquet"),
}  # fmt: skip
MODULES: Final = {name: module for module, names in _HELD.items() for name in names}
"""Every target and the module that holds it."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One reader under attack.

    Attributes:
        seeds: valid inputs, small.
        check: reads an input; see the module.
        mutate: (input, generator) → another input of its kind, for what byte flips seldom reach.
        memory_mib: by how much one input may raise the process's peak.
    """

    seeds: Callable[[], list[bytes]]
    check: Callable[[bytes], object]
    mutate: Callable[[bytes, random.Random], bytes] = plain_mutation
    memory_mib: int = 256


def find(name: str) -> Target:
    """The target of a name."""
    target: Target = getattr(importlib.import_module(MODULES[name]), name.upper())
    return target
