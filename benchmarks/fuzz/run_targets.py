"""Targets: what a run leaves beside the rows, as `explain` and `retune` read it again.

An input is the number of a file (its first byte) and that file's new bytes. The promise: an answer, or our error.
"""

from __future__ import annotations

import functools
import json
import shutil
from typing import TYPE_CHECKING

from mutations import json_mutation, plain_mutation
from place import scratch
from target import Target

import datapipe
from datapipe.preprocess import explain, preprocess, retune

if TYPE_CHECKING:
    import random
    from pathlib import Path

RECIPE = {
    "name": "r",
    "steps": [
        "decode", "unicode", "exact_duplicates", {"near_duplicates": {"threshold": 0.7}},
        {"gopher_quality@whitespace": {"min_words": 3}}, {"sample": {"rate": 0.9}},
    ],
}  # fmt: skip


def _place() -> Path:
    """A folder of its own: the tests read every target in one process, and another's `run` is a profiled one."""
    return scratch() / "run_index"


@functools.cache
def _dataset() -> tuple[Path, list[str]]:
    """A dataset, a copy of it to alter, and the files that are altered."""
    place = _place()
    place.mkdir()
    source = place / "in.jsonl"
    rows = [
        {"text": f"the row of number {i % 9} and of some more words and all that be have to of with it"}
        for i in range(30)
    ]
    source.write_text("\n".join(json.dumps(row) for row in [*rows, {"text": "short"}]))
    folder = place / "out"
    preprocess(str(source), str(folder), recipe=RECIPE, workers=0)
    shutil.copytree(folder, place / "altered")
    found = sorted(str(path.relative_to(folder)) for path in (folder / "index").rglob("*") if path.is_file())
    read = [name for name in found if name.endswith((".signals", ".clusters_runs"))]
    return folder, ["manifest.json", *read]


def _seeds() -> list[bytes]:
    folder, names = _dataset()
    return [bytes([place]) + (folder / name).read_bytes() for place, name in enumerate(names)]


def _mutate(data: bytes, chance: random.Random) -> bytes:
    inner = json_mutation if data[:1] == b"\0" else plain_mutation
    return data[:1] + inner(data[1:], chance)


def _read(data: bytes) -> None:
    folder, names = _dataset()
    name = names[(data[0] if data else 0) % len(names)]
    altered = _place() / "altered"
    (altered / name).write_bytes(data[1:])
    failed = None
    try:
        for question in (
            lambda: explain(str(altered), "in.jsonl:0"),
            lambda: retune(str(altered), {"gopher_quality.min_words": [1, 50]}),
        ):  # fmt: skip
            try:
                question()
            except datapipe.DatapipeError as error:
                failed = error
    finally:
        shutil.copyfile(folder / name, altered / name)
    if failed is not None:
        raise failed


RUN_INDEX = Target(seeds=_seeds, check=_read, mutate=_mutate)
