"""What a pipeline's stages hold; `test_strategy` trains with them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from datapipe.errors import ConfigError
from datapipe.train.model import GPT, GPTConfig
from datapipe.train.pipeline import take_stage


def make(layers):
    return GPT(GPTConfig(vocab_size=5, seq_len=4, layers=layers, heads=1, width=2, hidden=2))


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 7))
def test_stages_share_the_layers_out(layers, stages):
    """Layers in order, one more on some than on others, named as in the whole model; the embedding is on both ends."""
    if stages > layers:
        with pytest.raises(ConfigError, match="a layer a stage"):
            take_stage(make(layers), 0, stages)
        return
    whole = dict(make(layers).named_parameters())
    held, sizes = [], []
    for stage in range(stages):
        model = make(layers)
        take_stage(model, stage, stages)
        mine = dict(model.named_parameters())
        assert {name: value.shape for name, value in mine.items()}.items() <= {
            name: value.shape for name, value in whole.items()
        }.items()
        assert ("embedding.weight" in mine) == (stage in {0, stages - 1})
        assert ("norm.weight" in mine) == (stage == stages - 1)
        numbers = [int(number) for number in model.blocks]
        held += numbers
        sizes.append(len(numbers))
        assert set(whole) >= set(mine)
    assert held == list(range(layers))
    assert max(sizes) - min(sizes) <= 1


def test_another_model_is_refused():
    with pytest.raises(ConfigError, match="built-in GPT") as fault:
        take_stage(nn.Linear(2, 2), 0, 2)
    assert "shard" in fault.value.fix
