"""Random generators go on where they stood."""

import json
import random

import numpy as np
import pytest
import torch

from datapipe.errors import CheckpointError
from datapipe.train import random_state

CPU = torch.device("cpu")


def draw():
    drawn = [random.random(), random.gauss(0, 1), torch.rand(3).tolist(), torch.randn(1).tolist()]
    return [*drawn, np.random.rand(3).tolist(), np.random.randn(1).tolist()]  # noqa: NPY002


def test_they_give_the_numbers_they_would_have_given():
    """Through JSON, Python's, NumPy's and torch's; a saved half of a Gauss pair included."""
    random_state.seed_everything(7)
    random.gauss(0, 1)
    state = json.loads(json.dumps(random_state.capture(CPU)))
    expected = draw()
    draw()
    random_state.restore(state, CPU)
    assert draw() == expected
    random_state.seed_everything(7)
    assert draw() != expected


@pytest.mark.parametrize(
    "state", [{}, {"python": [3, [1, 2], None], "torch": ""}, {"python": None}, {"python": [3, [0] * 625, None]}]
)
def test_what_is_no_state_is_refused(state):
    with pytest.raises(CheckpointError, match="random state"):
        random_state.restore(state, CPU)


@pytest.mark.cuda
def test_the_gpus_generator_goes_on_too(cuda):
    random_state.seed_everything(7)
    state = json.loads(json.dumps(random_state.capture(cuda)))
    expected = torch.rand(4, device=cuda).tolist()
    random_state.restore(state, cuda)
    assert torch.rand(4, device=cuda).tolist() == expected
