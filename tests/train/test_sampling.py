"""How the next token is drawn."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.train import Draw, sample
from datapipe.train.sampling import probabilities

CHANCES = torch.tensor([0.1, 0.4, 0.05, 0.2, 0.25])
LOGITS = CHANCES.log() + 3.0


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, [0.1, 0.4, 0.05, 0.2, 0.25]),
        ({"temperature": 0}, [0, 1, 0, 0, 0]),
        ({"top_k": 1}, [0, 1, 0, 0, 0]),
        ({"top_k": 3}, [0, 0.4 / 0.85, 0, 0.2 / 0.85, 0.25 / 0.85]),
        ({"top_k": 99}, [0.1, 0.4, 0.05, 0.2, 0.25]),
        # 0.4 alone does not reach 0.6, 0.4 + 0.25 does.
        ({"top_p": 0.6}, [0, 0.4 / 0.65, 0, 0, 0.25 / 0.65]),
        ({"top_p": 0.39}, [0, 1, 0, 0, 0]),
        ({"top_p": 1e-9}, [0, 1, 0, 0, 0]),
        # Of the three likeliest, which hold 0.85, the first two hold 0.765.
        ({"top_k": 3, "top_p": 0.7}, [0, 0.4 / 0.65, 0, 0, 0.25 / 0.65]),
        # p ** (1 / temperature), scaled to sum to 1.
        ({"temperature": 0.5}, [0.01 / 0.275, 0.16 / 0.275, 0.0025 / 0.275, 0.04 / 0.275, 0.0625 / 0.275]),
    ],
)
def test_golden_distributions(told, expected):
    """Each filter leaves what its paper says, scaled to sum to 1."""
    got = probabilities(LOGITS, Draw(**told))
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    st.floats(0.0, 4.0),
    st.none() | st.integers(1, 14),
    st.floats(0.001, 1.0),
)
def test_any_draw_is_a_distribution_over_the_likeliest(logits, temperature, top_k, top_p):
    """It sums to 1, the likeliest is in it, and nothing kept is less likely than something dropped."""
    got = probabilities(torch.tensor(logits), Draw(temperature=temperature, top_k=top_k, top_p=top_p))
    assert math.isclose(float(got.sum()), 1.0, abs_tol=1e-9)
    assert got[int(torch.tensor(logits).argmax())] > 0
    assert top_k is None or int((got > 0).sum()) <= top_k
    if temperature > 0:
        kept, dropped = torch.tensor(logits)[got > 0], torch.tensor(logits)[got == 0]
        # A chance below what float64 holds may be 0 beside one that is not.
        assert not len(dropped) or kept.min() >= dropped.max() or float(got[got > 0].min()) < 1e-300


def test_equal_logits_are_cut_by_their_number():
    """Of equals the first are kept, so a machine's sort does not enter."""
    flat = torch.zeros(8)
    assert probabilities(flat, Draw(top_k=3)).nonzero().flatten().tolist() == [0, 1, 2]
    assert probabilities(flat, Draw(temperature=0)).argmax() == 0


def test_a_model_that_diverged_is_said():
    """NaN logits are an error, not a token."""
    with pytest.raises(ConfigError, match="not finite"):
        probabilities(torch.tensor([1.0, math.nan]), Draw())


def test_the_same_seed_gives_the_same_text(make_model):
    """Tokens depend on the seed alone: not on the process's generator, which is not touched, nor on the cache."""
    model, prompt = make_model(), [3, 1, 4]
    before = torch.get_rng_state()
    first = list(sample(model, prompt, Draw(new_tokens=12, seed=5)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert list(sample(model, prompt, Draw(new_tokens=12, seed=5))) == first
    assert list(sample(model, prompt, Draw(new_tokens=12, seed=6))) != first
    assert len(first) == 12
    assert all(weight.grad is None for weight in model.parameters())

    text = list(prompt)
    generator = torch.Generator().manual_seed(5)
    for token in first:
        logits = model(torch.tensor([text]))[0, -1]
        assert int(torch.multinomial(probabilities(logits, Draw()), 1, generator=generator)) == token
        text.append(token)


def test_it_ends_where_the_row_does_or_at_the_stop_token(make_model):
    """No token beyond the model's row; none after, nor at, the token that ends a text."""
    model = make_model()
    whole = list(sample(model, [1, 2], Draw(new_tokens=1000, seed=1)))
    assert len(whole) == model.config.seq_len - 2
    stop = whole[7]
    assert list(sample(model, [1, 2], Draw(new_tokens=1000, seed=1, stop=stop))) == whole[: whole.index(stop)]


@pytest.mark.parametrize(
    "told", [{"temperature": -1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_p": 0}, {"top_p": 1.5},
             {"top_k": 0}, {"top_k": True}, {"new_tokens": 0}, {"seed": -1}, {"seed": 1 << 63}, {"top_p": "x"}],
)  # fmt: skip
def test_options_out_of_range(told):
    """A value that cannot be meant is refused by name."""
    with pytest.raises(ConfigError, match=next(iter(told))):
        Draw(**told)


@pytest.mark.parametrize("prompt", [[], [0] * 24, [61], [-1]])
def test_prompts_that_do_not_fit(make_model, prompt):
    """Empty, as long as the row, or of another vocabulary."""
    with pytest.raises(ConfigError, match="prompt"):
        list(sample(make_model(), prompt, Draw()))
