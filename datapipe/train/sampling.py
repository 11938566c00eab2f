"""Text from a model: one token after another, drawn from what it holds likely.

What enters: a GPT, a prompt as token ids, and how to draw. What leaves: token ids, one by one. Invariant: the same
model, prompt, options and seed give the same tokens on the same machine; the generator is the draw's own, none of the
process's is touched, and the model's weights and mode are left as they were.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from datapipe.errors import ConfigError
from datapipe.train.kv_cache import KVCache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from datapipe.train.model import GPT


@final
@dataclass(frozen=True, kw_only=True)
class Draw:
    """How a token is drawn from logits: temperature first, then `top_k`, then `top_p` of what that left.

    Attributes:
        new_tokens: at most; fewer where the model's row is full, or `stop` was drawn.
        temperature: the logits are divided by it; 0: always the likeliest (the first of equals).
        top_k: only the k likeliest (arXiv:1805.04833, section 5.4); None: all.
        top_p: only the fewest likeliest that together reach probability p (arXiv:1904.09751, section 3.1); 1: all.
        seed: of the draws.
        stop: the token that ends a text, not given out; None: none does.

    Raises:
        ConfigError: a value is out of its range.
    """

    new_tokens: int = 128
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        for name, low in (("new_tokens", 1), ("top_k", 1), ("seed", 0), ("stop", 0)):
            value = getattr(self, name)
            if value is None and name in {"top_k", "stop"}:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 1 << 63:
                raise ConfigError(f"{name}={value!r}", expected=f"a whole number from {low}")
        _number("temperature", self.temperature, "a finite number from 0", low=0.0, high=sys.float_info.max)
        _number("top_p", self.top_p, "a number above 0, 1 at most", low=sys.float_info.min, high=1.0)


def _number(name: str, value: object, expected: str, *, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name}={value!r}", expected=expected)


def probabilities(logits: Tensor, draw: Draw) -> Tensor:
    """The distribution to draw from, float64 [vocab_size] on the CPU; sums to 1.

    Args:
        logits: [vocab_size].

    Raises:
        ConfigError: they are not all numbers: a model that diverged.
    """
    scores = logits.detach().double().cpu()
    if not bool(torch.isfinite(scores).all()):
        raise ConfigError(
            "logits that are not finite", expected="a model whose training did not diverge",
            fix="sample from an earlier checkpoint",
        )  # fmt: skip
    if draw.temperature == 0:
        return torch.zeros_like(scores).index_fill_(0, scores.argmax(), 1.0)
    # Less the highest: a tiny temperature makes the others -inf, never the sum NaN.
    scores = (scores - scores.max()) / draw.temperature
    ranked, order = scores.sort(descending=True, stable=True)
    if draw.top_k is not None:
        ranked = ranked[: draw.top_k]
    chances = ranked.softmax(dim=0)
    # A token stays while those before it have not yet reached p; the first always does.
    before = chances.cumsum(dim=0) - chances
    kept = chances * (before < draw.top_p) if draw.top_p < 1 else chances
    return torch.zeros_like(scores).index_copy_(0, order[: len(kept)], kept / kept.sum())


@torch.no_grad()
def sample(model: GPT, prompt: Sequence[int], draw: Draw) -> Iterator[int]:
    """New tokens after the prompt, each as soon as it is drawn.

    Args:
        prompt: token ids, one at least, and fewer than the model's `seq_len`.

    Raises:
        ConfigError: the prompt is empty, too long, or holds a token that the model does not know.
    """
    room, vocabulary = model.config.seq_len, model.config.vocab_size
    if not prompt or len(prompt) >= room:
        raise ConfigError(
            f"a prompt of {len(prompt)} tokens",
            expected=f"1 to {room - 1}, as the model was trained on rows of {room}",
            fix="a shorter prompt" if prompt else "at least one token",
        )
    strange = [token for token in prompt if not 0 <= token < vocabulary]
    if strange:
        raise ConfigError(
            f"token {strange[0]} in the prompt", expected=f"0 to {vocabulary - 1}",
            fix="the tokenizer of the dataset that the model was trained on",
        )  # fmt: skip
    generator = torch.Generator().manual_seed(draw.seed)
    past = KVCache(model)
    device = model.embedding.weight.device
    new = torch.tensor([list(prompt)], dtype=torch.int64, device=device)
    for _ in range(min(draw.new_tokens, room - len(prompt))):
        chances = probabilities(model(new, past=past)[0, -1], draw)
        token = int(torch.multinomial(chances, 1, generator=generator))
        if token == draw.stop:
            return
        yield token
        new = new.new_tensor([[token]])
