"""The state of the random generators as plain JSON.

What enters: Python's and torch's global generators (CUDA's too, where the run computes there). What leaves: lists of
numbers and base64. Invariant: after `restore` they give the numbers they would have given; nothing is pickled.
"""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING, Any

import torch

from datapipe.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping


def seed_everything(seed: int) -> None:
    """Seed Python's and torch's global generators."""
    random.seed(seed)
    torch.manual_seed(seed)


def capture(device: torch.device) -> dict[str, Any]:
    """The generators' states."""
    version, numbers, gauss = random.getstate()
    state = {"python": [version, list(numbers), gauss], "torch": _text(torch.get_rng_state())}
    if device.type == "cuda":
        state["cuda"] = _text(torch.cuda.get_rng_state(device))
    return state


def restore(state: Mapping[str, Any], device: torch.device) -> None:
    """Put them back; a run that moved to a GPU leaves its generator as seeded.

    Raises:
        CheckpointError: it is no such state.
    """
    try:
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))
        torch.set_rng_state(_tensor(state["torch"]))
        if device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(_tensor(state["cuda"]), device)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"a random state that cannot be read ({error})", fix="resume from an earlier checkpoint"
        ) from error


def _text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=torch.uint8)
