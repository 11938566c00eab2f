"""The optimizer's groups."""

import pytest

from datapipe.errors import ConfigError
from datapipe.train.optimizer import make_optimizer


def test_matrices_decay_and_vectors_do_not(make_model, make_config):
    """Every trained weight is in exactly one group."""
    model = make_model()
    groups = make_optimizer(model, make_config(weight_decay=0.25)).param_groups
    decayed = {id(w) for g in groups if g["weight_decay"] == 0.25 for w in g["params"]}
    spared = {id(w) for g in groups if g["weight_decay"] == 0.0 for w in g["params"]}
    assert decayed == {id(w) for w in model.parameters() if w.ndim >= 2}
    assert spared == {id(w) for name, w in model.named_parameters() if "norm" in name}
    assert len(decayed) + len(spared) == len(list(model.parameters())) == sum(len(g["params"]) for g in groups)


def test_frozen_weights_are_left_out(make_model, make_config):
    model = make_model()
    model.embedding.weight.requires_grad_(requires_grad=False)
    groups = make_optimizer(model, make_config()).param_groups
    assert id(model.embedding.weight) not in {id(w) for g in groups for w in g["params"]}
    for weight in model.parameters():
        weight.requires_grad_(requires_grad=False)
    with pytest.raises(ConfigError, match="trainable"):
        make_optimizer(model, make_config())
