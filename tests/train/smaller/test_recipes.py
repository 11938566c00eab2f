"""All methods from one trained model: what each makes, what it costs, and that it goes on where it was stopped."""

import json
import logging
import os
import signal

import pytest
import torch

from datapipe.errors import ConfigError
from datapipe.train import GPT
from datapipe.train.smaller import METHODS, Recipe, Variant, prices, shrink
from datapipe.train.smaller.int8 import int8_weights, quiet_imports
from datapipe.train.smaller.lora import with_adapters
from datapipe.train.smaller.price import model_bytes
from datapipe.train.trained import trained_gpt

TOKENS = torch.arange(20)[None] % 61


@pytest.fixture
def batch(make_loader):
    return make_loader().batch(0, 0)


def test_every_method_in_one_table(tmp_path, make_model, make_config, make_loader, batch):
    """Each has its size, times and loss; files hold the models; the original is as it was; nothing is trained twice."""
    model, loader = make_model().eval(), make_loader()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stands, recipe = loader.state_dict(), Recipe(steps=2, rank=2)
    config = make_config(lr=0.01)
    variants = shrink(model, config, loader, recipe, out=tmp_path, step=7)
    assert [variant.name for variant in variants] == ["original", *METHODS]
    assert loader.state_dict() == stands
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for variant in variants[1:-1]:
        back, step = trained_gpt(variant.file)
        assert step == 9
        with torch.no_grad():
            torch.testing.assert_close(back(TOKENS), variant.model(TOKENS))

    held_out = [make_loader(seed=5).batch(0, n) for n in range(2)]
    table = {price.name: price for price in prices(variants, config, batch=batch, evaluation=held_out, rounds=1)}
    whole = table["original"]
    assert whole.parameters == model.parameter_count()
    assert whole.bytes == 4 * whole.parameters
    with torch.no_grad():
        sums = [model.loss_sum(b) for b in held_out]
    assert whole.loss == pytest.approx(sum(float(loss) for loss, _ in sums) / sum(int(n) for _, n in sums))
    assert table["lora"].parameters == whole.parameters
    assert 0 < table["lora"].trained < whole.trained == whole.parameters
    assert table["distil"].parameters < whole.parameters
    assert table["structured"].parameters < whole.parameters
    assert table["magnitude"].zeros > 0.2 > whole.zeros == 0
    assert (table["int8"].trained, table["int8"].step_ms, table["int8"].file) == (0, None, None)
    assert table["int8"].bytes < whole.bytes
    assert all(price.token_ms > 0 and price.first_ms > 0 and price.loss > 0 for price in table.values())
    assert json.loads(json.dumps(whole.as_dict()))["name"] == "original"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    read = []
    again = make_loader(change=lambda _p, b: read.append(1) or b)
    second = shrink(model, config, again, recipe, out=tmp_path, step=7)
    assert read == []
    with torch.no_grad():
        for one, other in zip(variants, second, strict=True):
            assert torch.equal(one.model(TOKENS), other.model(TOKENS)), one.name


def test_a_signal_ends_a_method_and_the_same_call_goes_on(tmp_path, make_model, make_config, make_loader):
    """SIGTERM in its training: interrupted, and what follows is the undisturbed model."""
    recipe = Recipe(methods=("structured",), steps=4)
    whole = shrink(make_model(), make_config(), make_loader(), recipe, out=tmp_path / "whole")[1]

    def stop(position, batch):
        if position == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    with pytest.raises(KeyboardInterrupt):
        shrink(make_model(), make_config(), make_loader(change=stop), recipe, out=tmp_path / "parts")
    found = shrink(make_model(), make_config(), make_loader(), recipe, out=tmp_path / "parts")[1]
    assert torch.equal(found.model(TOKENS), whole.model(TOKENS))


def test_adapters_begin_as_nothing_and_merge_to_the_same(make_model, batch):
    """Before a step: the model's logits. After some: only adapters have moved, and merged it is a plain GPT."""
    model = make_model()
    adapted, merged = with_adapters(model, rank=2)
    assert torch.equal(adapted(TOKENS), model(TOKENS))
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    optimizer = torch.optim.AdamW([w for w in adapted.parameters() if w.requires_grad], lr=0.1)
    for _ in range(2):
        adapted.loss(batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        wanted = adapted(TOKENS)
        plain = merged()
        assert float((wanted - model(TOKENS)).abs().max()) > 1e-3
        torch.testing.assert_close(plain(TOKENS), wanted, atol=1e-5, rtol=0)
    fresh = GPT(model.config)
    fresh.load_state_dict(plain.state_dict())
    assert all(weight.requires_grad for weight in plain.parameters())


def test_int8_weights_are_off_by_half_a_step(make_model, caplog):
    """Each within its row's largest over 254, at about a byte each; the logits are near; the model is as it was."""
    model = make_model(width=64, seq_len=32).eval()
    with caplog.at_level(logging.WARNING):
        small = int8_weights(model)
    assert caplog.records == []
    up, weight = small.blocks[0].ffn.up, model.blocks[0].ffn.up.weight
    with torch.no_grad():
        rebuilt = up(torch.eye(64)).T
        off = (rebuilt - weight).abs()
        assert bool((off <= weight.abs().amax(1, keepdim=True) / 254 * 1.01 + 1e-7).all())
        assert 0 < float((small(TOKENS) - model(TOKENS)).abs().max()) < 0.05 * float(model(TOKENS).abs().max())
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    rows = sum(m.weight.shape[0] for m in model.modules() if isinstance(m, torch.nn.Linear))
    # A row keeps its scale, in float32, and a zero point, in one byte.
    assert model_bytes(model) - model_bytes(small) == 3 * linear - 5 * rows
    assert type(weight) is torch.nn.Parameter


def test_a_library_that_is_not_there_is_named():
    """What to install, in place of a traceback; log levels are as before."""
    level = logging.getLogger("torchao").level
    with pytest.raises(ConfigError, match="LoRA without peft_of_no_kind") as caught, quiet_imports("LoRA"):
        import peft_of_no_kind  # noqa: F401
    assert "shrink" in caught.value.fix
    assert logging.getLogger("torchao").level == level


@pytest.mark.parametrize(
    "told", [{"methods": ()}, {"methods": ("lora", "lora")}, {"methods": ("prune",)}, {"steps": 0}, {"rank": 0},
             {"rank": True}, {"share": 1.0}],
)  # fmt: skip
def test_recipes_that_are_wrong(told):
    """Refused by name."""
    with pytest.raises(ConfigError, match=next(iter(told))):
        Recipe(**told)


@pytest.mark.cuda
def test_prices_on_a_gpu(make_model, make_config, make_loader, batch, cuda):
    """Times are of work that is done: the device is waited for."""
    model = make_model()
    table = prices([Variant(name="original", model=model, trainee=lambda: model)], make_config(device="cuda"),
                   batch=batch, evaluation=[make_loader().batch(0, 1)])  # fmt: skip
    assert table[0].step_ms > table[0].token_ms > 0
