"""`datapipe export`: a checkpoint's weights as one safetensors file.

What enters: a run's folder, a path. What leaves: the file. Invariant: a file that is there is replaced only where
asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datapipe.cli import console


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder (its newest checkpoint) or one of its step-… folders.")],
    file: Annotated[Path, typer.Argument(help="The file to write: model.safetensors.")],
    dtype: Annotated[str | None, typer.Option("--dtype", help="fp32, bf16 or fp16; else as trained.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a checkpoint's weights into one safetensors file, under the model's own names, however many ranks trained.

    The checkpoint's checksums are verified; optimizer and loader state stay behind.

    Example: datapipe export runs/a model.safetensors --dtype bf16
    """
    from datapipe.train.export import export_model

    done = export_model(run, file, dtype=dtype, overwrite=overwrite)
    if json:
        console.emit(done.as_dict())
        return
    console.say(
        f"{done.path}: {console.count(done.tensors, 'tensor')}, {done.parameters:,} parameters, "
        f"{console.size(done.bytes)}, of step {done.step}"
    )
