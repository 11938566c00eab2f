"""AdamW's groups and its state as flat tensors."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from datapipe.errors import CheckpointError, ConfigError
from datapipe.train.optimizer import load_state_tensors, make_optimizer, state_tensors


def stepped(model, optimizer, loader, times=3):
    for position in range(times):
        model.loss(loader.batch(0, position)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


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


def test_its_state_goes_through_a_file_and_back(tmp_path, make_model, make_config, make_loader):
    """After the round trip, every moment is bitwise the same, and so is the next update."""
    model, loader = make_model(), make_loader()
    optimizer = make_optimizer(model, make_config())
    stepped(model, optimizer, loader)
    save_file(state_tensors(model, optimizer), tmp_path / "o.safetensors")
    twin = make_model()
    twin.load_state_dict(model.state_dict())
    other = make_optimizer(twin, make_config())
    load_state_tensors(twin, other, load_file(tmp_path / "o.safetensors"))
    saved, loaded = state_tensors(model, optimizer), state_tensors(twin, other)
    assert len(saved) == 3 * len(list(model.parameters()))  # step, exp_avg, exp_avg_sq
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    stepped(model, optimizer, loader, 1)
    stepped(twin, other, loader, 1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda t: {k: v for k, v in t.items() if not k.startswith("norm.weight/")}, "no norm.weight"),
        (lambda t: t | {"head.weight/exp_avg": torch.zeros(1)}, "head.weight is unknown"),
        (lambda t: t | {"norm.weight/exp_avg": torch.zeros(3)}, r"norm.weight/exp_avg \(3,\), here \(16,\)"),
    ],
)
def test_the_state_of_another_model_is_refused(make_model, make_config, make_loader, damage, match):
    model = make_model()
    optimizer = make_optimizer(model, make_config())
    stepped(model, optimizer, make_loader())
    with pytest.raises(CheckpointError, match=match):
        load_state_tensors(model, optimizer, damage(state_tensors(model, optimizer)))


def test_a_state_from_before_the_first_step_is_empty_and_loads(make_model, make_config):
    model = make_model()
    optimizer = make_optimizer(model, make_config())
    assert state_tensors(model, optimizer) == {}
    load_state_tensors(model, optimizer, {})
