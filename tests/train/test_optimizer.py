"""The optimizer by its name, and its groups."""

import pytest

from datapipe.errors import ConfigError
from datapipe.train import train
from datapipe.train.optimizer import make_optimizer, optimizer_names


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


NAMES = sorted(optimizer_names())


QUICK = {"sgd", "rmsprop", "adagrad", "adafactor", "nadam"}
OPTIONS = {"sgd": {"momentum": 0.9, "nesterov": True}, "rmsprop": {"momentum": 0.5, "centered": True}}


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "muon"],
)
def test_every_optimizer_of_torch_learns_and_goes_on(tmp_path, make_config, make_loader, make_shape, name):
    """By its name, with options of its own: stopped and resumed, its losses are those of one run, to the bit."""
    told = make_config(
        steps=4, optimizer=name.upper(), optimizer_options=OPTIONS.get(name, {}), weight_decay=0, lr=1e-2,
        model=make_shape(layers=1, width=8, heads=1),
    )  # fmt: skip
    whole = train(told, make_loader(), out=tmp_path / "whole")
    first = train(told, make_loader(), out=tmp_path / "parts", until=2)
    then = train(told, make_loader(), out=tmp_path / "parts", resume="must")
    assert first.losses + then.losses == whole.losses
    assert whole.losses[-1] != whole.losses[0]


def test_the_names_are_those_that_take_a_gradient():
    """What torch has, in small letters, without those that are refused."""
    assert {"adamw", "adam", "sgd", "rmsprop", "adagrad", "nadam", "radam", "adafactor"} <= set(NAMES)
    assert not {"lbfgs", "sparseadam", "optimizer"} & set(NAMES)


def test_options_reach_it_and_betas_only_those_that_have_them(make_model, make_config):
    """AdamW and SGD are fused on the CPU; what the user says of the kernel goes before."""
    adam = make_optimizer(make_model(), make_config(eps=1e-5, optimizer_options={"amsgrad": True}))
    assert (adam.defaults["betas"], adam.defaults["eps"], adam.defaults["amsgrad"]) == ((0.9, 0.95), 1e-5, True)
    assert adam.defaults["fused"] is True
    rms = make_optimizer(make_model(), make_config(eps=1e-5, optimizer="rmsprop", optimizer_options={"alpha": 0.8}))
    assert (rms.defaults["eps"], rms.defaults["alpha"]) == (1e-8, 0.8)
    sgd = make_optimizer(make_model(), make_config(optimizer="sgd", optimizer_options={"foreach": True}))
    assert (sgd.defaults["fused"], sgd.defaults["foreach"]) == (None, True)


@pytest.mark.parametrize(
    ("told", "match", "fix"),
    [({"optimizer": "LBFGS"}, "closure", "adamw"), ({"optimizer": "sparseadam"}, "sparse gradients", "adam"),
     ({"optimizer": "adanw"}, "adanw", "'adamw'"), ({"optimizer_options": {"lr": 1}}, "'lr'", "TrainConfig"),
     ({"optimizer": "sgd", "optimizer_options": {"momentun": 0.9}}, "momentun", "'momentum'"),
     ({"optimizer": "sgd", "optimizer_options": {"momentum": -1}}, "momentum", "optimizer_options"),
     ({"optimizer": "sgd", "optimizer_options": {"momentum": "much"}}, "momentum", "optimizer_options"),
     ({"optimizer": "rprop"}, "weight_decay", "weight_decay=0"), ({"optimizer": "muon"}, "2D", "optimizer")],
)  # fmt: skip
def test_what_it_cannot_be_is_refused_with_its_reason(make_model, make_config, told, match, fix):
    with pytest.raises(ConfigError, match=match) as fault:
        make_optimizer(make_model(), make_config(**told))
    assert fix in fault.value.fix
