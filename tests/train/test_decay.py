"""Which weights decay: the rule, and patterns before it."""

import pytest
import torch

from datapipe.errors import ConfigError
from datapipe.train.decay import parameter_groups


def decays(model, groups):
    names = {id(weight): name for name, weight in model.named_parameters()}
    return {names[id(weight)]: group["weight_decay"] for group in groups for weight in group["params"]}


def test_patterns_come_before_the_rule_and_the_first_counts(make_model):
    """Every trained weight is in one group, none of them empty."""
    model = make_model()
    patterns = {"embedding.*": 0.0, "blocks.0.*": 0.5, "blocks.*.ffn.*": 0.7, "*.weight": 0.2}
    found = decays(model, groups := parameter_groups(model, decay=0.1, patterns=patterns))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert all(group["params"] for group in groups)
    assert (found["embedding.weight"], found["blocks.0.ffn.up.weight"]) == (0.0, 0.5)
    assert (found["blocks.1.ffn.up.weight"], found["norm.weight"]) == (0.7, 0.2)
    model.norm.weight.requires_grad_(requires_grad=False)
    assert "norm.weight" not in decays(model, parameter_groups(model, decay=0.1, patterns={}))


def test_a_pattern_without_a_weight_is_refused(make_model):
    with pytest.raises(ConfigError, match=r"no weight is called 'embeding.weight'") as fault:
        parameter_groups(make_model(), decay=0.1, patterns={"embeding.weight": 0.0})
    assert "'embedding.weight'" in fault.value.fix
    with pytest.raises(ConfigError, match="trainable"):
        parameter_groups(torch.nn.ReLU(), decay=0.1, patterns={})
