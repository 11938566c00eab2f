"""Keys and values of the tokens a model has read, so that the next one costs one token's work.

What enters: the keys and values of new tokens, block by block. What leaves: those of all tokens so far. Invariant: the
logits of a token read after a cache are those it would have at the end of the whole text; the room of `seq_len` tokens
is taken once, and never more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from datapipe.train.model import GPT


@final
class KVCache:
    """What one batch of rows has been told so far: one document a row, all of one length.

    Args:
        model: whose blocks and longest row it is for.

    Attributes:
        layers: one for each block.
        length: tokens read.
    """

    def __init__(self, model: GPT) -> None:
        self.room = model.config.seq_len
        self.layers = [LayerCache(self.room) for _ in model.blocks]

    @property
    def length(self) -> int:
        """Tokens that every block has read."""
        return self.layers[-1].length

    @property
    def nbytes(self) -> int:
        """Bytes held: 2 x layers x rows x seq_len x width numbers, once something was read."""
        return sum(part.nbytes for layer in self.layers for part in layer.parts)

    def places(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Positions int64 [B, T] of the tokens [B, T] to come, and whom each may look at, bool [1, 1, T, P + T].

        Raises:
            ConfigError: there is no room for them.
        """
        rows, new = tokens.shape
        old = self.length
        if old + new > self.room:
            raise ConfigError(
                f"{old + new} tokens in a model of seq_len={self.room}",
                expected=f"{self.room - old} more at most",
                fix="a shorter prompt, fewer new tokens, or a model trained on longer rows",
            )
        positions = torch.arange(old, old + new, device=tokens.device).expand(rows, new)
        mask = torch.ones(new, old + new, dtype=torch.bool, device=tokens.device).tril(diagonal=old)
        return positions, mask[None, None]


@final
class LayerCache:
    """One block's part."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.length = 0
        self.parts: tuple[Tensor, ...] = ()

    def extended(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, T, D] of the new tokens → views [B, H, P + T, D] of all."""
        if not self.parts:
            shape = (k.shape[0], k.shape[1], self.room, k.shape[3])
            self.parts = (k.new_empty(shape), v.new_empty(shape))
        end = self.length + k.shape[2]
        for part, new in zip(self.parts, (k, v), strict=True):
            part[:, :, self.length : end] = new
        self.length = end
        keys, values = self.parts
        return keys[:, :, :end], values[:, :, :end]
