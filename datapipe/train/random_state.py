"""The state of the random generators as plain JSON.

What enters: the global generators of Python, NumPy and torch (CUDA's too, where the run computes there). What leaves:
lists of numbers and base64. Invariant: after `restore` they give the numbers they would have given; nothing is pickled.
"""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datapipe.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    # The legacy generator takes 32 bits; models and transforms still draw from it.
    np.random.seed(seed % (1 << 32))  # noqa: NPY002
    torch.manual_seed(seed)


def capture(device: torch.device) -> dict[str, Any]:
    """The generators' states."""
    version, numbers, gauss = random.getstate()
    name, keys, place, has_gauss, kept = np.random.get_state(legacy=True)  # noqa: NPY002
    state = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, [int(key) for key in keys], place, has_gauss, kept],
        "torch": _text(torch.get_rng_state()),
    }
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
        name, keys, place, has_gauss, kept = state["numpy"]
        np.random.set_state((name, np.array(keys, np.uint32), place, has_gauss, kept))  # noqa: NPY002
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
