"""What a cache holds changes no logit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.train import GPT, GPTConfig
from datapipe.train.kv_cache import KVCache

VOCAB, LENGTH = 61, 24


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = GPT(GPTConfig(vocab_size=VOCAB, seq_len=LENGTH, layers=2, heads=2, width=16)).eval()
    with torch.no_grad():
        for weight in made.parameters():  # at its first weights every token is nearly as likely as another
            if weight.ndim == 2:
                weight.mul_(8)
    return made


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, LENGTH), min_size=1, max_size=8), st.integers(1, 3), st.integers(0, 99))
def test_the_logits_of_every_position_are_those_without_it(model, pieces, rows, seed):
    """However a text is cut into pieces, one token each among them, the logits are within 1e-5 of the whole row's."""
    total = min(sum(pieces), LENGTH)
    tokens = torch.randint(0, VOCAB, (rows, total), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        whole = model(tokens)
        past, got = KVCache(model), []
        for piece in tokens.split([*_cut(pieces, total)], dim=1):
            got.append(model(piece, past=past))
    assert float(whole.std()) > 0.1
    assert past.length == total
    torch.testing.assert_close(torch.cat(got, dim=1), whole, atol=1e-5, rtol=0)


def _cut(pieces, total):
    for piece in pieces:
        if total <= 0:
            return
        yield min(piece, total)
        total -= piece


def test_token_by_token_to_the_last_place(model):
    """A full row read one by one gives the whole row's logits, in room taken once."""
    tokens = torch.randint(0, VOCAB, (1, LENGTH), generator=torch.Generator().manual_seed(7))
    past = KVCache(model)
    assert past.nbytes == 0
    with torch.no_grad():
        got = [model(tokens[:, at : at + 1], past=past) for at in range(LENGTH)]
        torch.testing.assert_close(torch.cat(got, dim=1), model(tokens), atol=1e-5, rtol=0)
    assert past.nbytes == 2 * 2 * LENGTH * 16 * 4
    with pytest.raises(ConfigError, match="0 more at most"):
        model(tokens[:, :1], past=past)
    assert past.length == LENGTH
