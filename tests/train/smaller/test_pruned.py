"""Pruning: what goes, what stays, and that it is the same function."""

import pytest
import torch

from datapipe.errors import ConfigError
from datapipe.train import GPT
from datapipe.train.smaller.pruned import narrower, sparse

TOKENS = torch.arange(20)[None] % 61


@pytest.fixture
def model(make_model):
    made = make_model()
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 2:
                weight.mul_(5)
    return made.eval()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_narrower_model_is_the_whole_one_with_channels_at_zero(model, share):
    """Zeroing the output rows of the channels that went gives the same logits; they are those of least magnitude."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = narrower(model, share)
    width = model.config.ffn_width
    assert small.config.ffn_width == round(width * (1 - share) / 2) * 2
    gone = GPT(model.config)
    gone.load_state_dict(model.state_dict())
    with torch.no_grad():
        for block, kept in zip(gone.blocks, small.blocks, strict=True):
            out = block.ffn.out.weight
            stays = torch.tensor([bool((kept.ffn.out.weight == out[:, [n]]).all(0).any()) for n in range(width)])
            assert int(stays.sum()) == small.config.ffn_width
            group = block.ffn.group
            rows = block.ffn.up.weight.reshape(-1, 2, group, out.shape[0]).abs().sum(-1).sum(1).reshape(-1)
            importance = rows + out.abs().sum(0)
            assert importance[stays].min() >= importance[~stays].max()
            out[:, ~stays] = 0
        torch.testing.assert_close(small(TOKENS), gone(TOKENS), atol=1e-5, rtol=0)
        assert float((small(TOKENS) - model(TOKENS)).abs().max()) > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert small.parameter_count() < model.parameter_count()


def test_zeros_are_the_smallest_and_stay_zeros(model):
    """That share of all Linear weights is zero, none larger than one that is left; training moves only the others."""
    found, plain = sparse(model, 0.5)
    optimizer = torch.optim.AdamW(found.parameters(), lr=0.1)
    for _ in range(2):
        found.loss({"tokens": TOKENS}).backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = plain()
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    now = torch.cat([trained.get_submodule(name).weight.flatten() for name in linears])
    then = torch.cat([model.get_submodule(name).weight.flatten() for name in linears])
    zeros = now == 0
    assert float(zeros.float().mean()) == pytest.approx(0.5, abs=0.001)
    assert then[zeros].abs().max() <= then[~zeros].abs().min()
    assert (now[~zeros] != then[~zeros]).all()
    fresh = GPT(model.config)
    fresh.load_state_dict(trained.state_dict())  # a plain GPT again


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, True, "half"])
def test_shares_that_are_none(model, share):
    """Refused by both, with what is one."""
    for method in (narrower, sparse):
        with pytest.raises(ConfigError, match="share"):
            method(model, share)


def test_a_share_that_leaves_nothing(model):
    """So few channels would go, or stay, that none would: a share that fits is named."""
    for share in (0.999, 0.001):
        with pytest.raises(ConfigError, match="channels") as caught:
            narrower(model, share)
        assert narrower(model, float(caught.value.fix.removeprefix("share=")))
