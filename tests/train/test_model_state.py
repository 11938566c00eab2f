"""Names and tensors of a model and its optimizer, however the model is wrapped."""

import pytest
import torch

from datapipe.errors import CheckpointError
from datapipe.train.model_state import model_state, optimizer_state, plain_name, put_optimizer_state
from datapipe.train.optimizer import make_optimizer


def stepped(model, optimizer, loader, times=3):
    for position in range(times):
        model.loss(loader.batch(0, position)).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_an_optimizers_state_comes_back_bit_for_bit(make_model, make_config, make_loader):
    """Every moment is the same afterwards, and so is the next update."""
    model, loader = make_model(), make_loader()
    optimizer = make_optimizer(model, make_config())
    stepped(model, optimizer, loader)
    saved = {name: value.clone() for name, value in optimizer_state(model, optimizer).items()}
    assert len(saved) == 3 * len(list(model.parameters()))  # step, exp_avg, exp_avg_sq
    twin = make_model()
    twin.load_state_dict(model.state_dict())
    other = make_optimizer(twin, make_config())
    put_optimizer_state(twin, other, saved)
    found = optimizer_state(twin, other)
    assert found.keys() == saved.keys()
    assert all(torch.equal(saved[name], found[name]) for name in saved)
    stepped(model, optimizer, loader, 1)
    stepped(twin, other, loader, 1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_before_the_first_step_there_is_none(make_model, make_config):
    """And asking for it makes none: the optimizer's count begins at 0."""
    model = make_model()
    optimizer = make_optimizer(model, make_config())
    assert optimizer_state(model, optimizer) == {}
    put_optimizer_state(model, optimizer, {})
    assert optimizer.state_dict()["state"] == {}


def test_names_are_the_plain_models(make_model):
    """The live parameters under their own names; compilation and activation checkpointing put theirs into them."""
    model = make_model()
    assert plain_name("_orig_mod.blocks.0._checkpoint_wrapped_module.norm.weight") == "blocks.0.norm.weight"
    named = dict(model.named_parameters())
    assert all(value is named[name.partition("/")[2]] for name, value in model_state(model).items())


def test_of_tied_weights_one_name_is_there():
    """The first, unless a checkpoint knows another."""
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    assert list(model_state(model)) == ["model/0.weight"]
    assert list(model_state(model, known={"model/1.weight"})) == ["model/1.weight"]


def test_what_is_no_tensor_is_refused():
    """It could only be pickled."""

    class Extra(torch.nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    with pytest.raises(CheckpointError, match="_extra_state of the model's state is a dict"):
        model_state(Extra(2, 2))
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.state[model.weight]["history"] = [1]
    with pytest.raises(CheckpointError, match="SGD keeps history, a list"):
        optimizer_state(model, optimizer)
