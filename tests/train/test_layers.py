"""Layers recomputed and compiled in place."""

import pytest
import torch
from torch import nn

from datapipe.errors import ConfigError, TrainError
from datapipe.train.layers import compile_layers, compiling, recompute, repeated_layers


def saved_bytes(model, batch):
    """Bytes that the forward pass keeps for the backward one, and the gradients that come out."""
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total, _ = model.loss_sum(batch)
    total.backward()
    return kept, total, {name: weight.grad for name, weight in model.named_parameters()}


def test_recomputation_keeps_less_and_changes_no_bit(make_model, make_loader):
    """Loss and gradients are those of the plain model to the last bit; names stay; evaluation goes on as it was."""
    batch = make_loader().batch(0, 0)
    plain, again = make_model(layers=3), make_model(layers=3)
    recompute(again)
    (kept, loss, grads), (kept_less, loss_again, grads_again) = saved_bytes(plain, batch), saved_bytes(again, batch)
    assert kept_less < kept / 2
    assert torch.equal(loss, loss_again)
    assert grads.keys() == grads_again.keys()
    assert all(torch.equal(grads[name], grads_again[name]) for name in grads)
    assert plain.state_dict().keys() == again.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(plain.loss_sum(batch)[0], again.loss_sum(batch)[0])


def test_layers_are_found_wherever_they_repeat():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(1, 1), nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)}))
            self.more = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)])])

    nested = Nested()
    found = repeated_layers(nested)
    assert found == [*nested.inner[1].values(), nested.more[0]]  # outermost: what is inside a layer belongs to it


@pytest.mark.parametrize("option", [recompute, compile_layers])
def test_a_model_without_them_is_refused(option):
    with pytest.raises(ConfigError, match="repeats no layer") as fault:
        option(nn.Linear(2, 2))
    assert "ModuleList" in fault.value.fix


def test_a_failed_compilation_says_what_to_do(make_model, make_loader, monkeypatch):
    """No quiet fall back to the slow way: an error that names the compiler and the option."""

    def broken(graph, examples):
        raise RuntimeError("no g++ here")

    model = make_model(layers=1)
    for layer in repeated_layers(model):
        layer.compile(backend=broken)
    with pytest.raises(TrainError, match="torch.compile failed") as fault, compiling():
        model.loss_sum(make_loader().batch(0, 0))
    assert "compile=False" in fault.value.fix
    torch._dynamo.reset()


def test_other_errors_pass_through():
    with pytest.raises(KeyError), compiling():
        raise KeyError("a column")


@pytest.mark.slow
def test_compiled_layers_compute_the_same(make_model, make_loader):
    """Compiled on this machine's own compiler: loss and gradients within rounding, under the same names."""
    batch = make_loader().batch(0, 0)
    plain, fast = make_model(), make_model()
    compile_layers(fast)
    (_, loss, grads), (_, loss_fast, grads_fast) = saved_bytes(plain, batch), saved_bytes(fast, batch)
    torch.testing.assert_close(loss_fast, loss, rtol=1e-5, atol=0)
    for name in grads:
        torch.testing.assert_close(grads_fast[name], grads[name], rtol=1e-4, atol=1e-4)
    assert plain.state_dict().keys() == fast.state_dict().keys()
    torch._dynamo.reset()
