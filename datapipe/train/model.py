"""A small decoder-only transformer for packed sequences.

What enters: a batch of `tokens` [B, T], and where documents share a row, `segment_ids` and `position_ids` [B, T].
What leaves: logits, or the summed loss and how many targets it is over. Invariant: a document's loss is what it would
be alone in its row: it attends to itself only, its positions begin at 0, and its last token has no target.

Pre-norm with RMSNorm, rotary positions, SwiGLU and tied embeddings, as in Llama (arXiv:2302.13971); initialised as
GPT-2 (residual projections scaled by 1/sqrt(2 x layers)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast, final

import torch
import torch.nn.functional as F  # noqa: N812  (the name that every PyTorch file gives it)
from torch import Tensor, nn

from datapipe.errors import ConfigError, TrainError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.train.kv_cache import KVCache, LayerCache

IGNORED: Final = -100
"""The target of a place that counts in no loss."""
_ROTARY_BASE: Final = 10_000.0
_INIT_STD: Final = 0.02


@final
@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape of a model.

    Attributes:
        vocab_size: token ids are 0 … vocab_size - 1.
        seq_len: the longest row, in tokens.
        width: of the residual stream; a multiple of 2 x heads.
        hidden: of the SwiGLU; None: 8/3 of the width, rounded up to a multiple of 32.

    Raises:
        ConfigError: a number is not positive, or the width does not fit the heads.
    """

    vocab_size: int
    seq_len: int
    layers: int = 4
    heads: int = 4
    width: int = 128
    hidden: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "seq_len", "layers", "heads", "width"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"GPTConfig({name}={value!r})", expected="a whole number from 1")
        if self.hidden is not None and (isinstance(self.hidden, bool) or self.hidden < 1):
            raise ConfigError(f"GPTConfig(hidden={self.hidden!r})", expected="a whole number from 1, or None")
        if self.width % (2 * self.heads):
            fit = max(1, round(self.width / (2 * self.heads))) * 2 * self.heads
            raise ConfigError(
                f"width {self.width} over {self.heads} heads",
                expected="an even number of channels a head (rotary positions turn pairs)",
                fix=f"width={fit}",
            )

    @property
    def ffn_width(self) -> int:
        """Channels inside the SwiGLU."""
        return self.hidden if self.hidden is not None else -(-8 * self.width // 3 // 32) * 32

    @property
    def ffn_groups(self) -> int:
        """Groups of those channels whose gates and values lie together: what tensor parallelism can deal out."""
        return math.gcd(self.ffn_width, self.heads)


@final
class Attention(nn.Module):
    """Causal self-attention within segments."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        # Rows of qkv: head by head, each its q, k and v: a share of the heads is a contiguous share of the rows.
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, past: LayerCache | None = None
    ) -> Tensor:
        """[B, T, width] → [B, T, width]; `mask` [B, 1, T, T] says who may look at whom, None: everyone backwards.

        With `past`, of P tokens before these, a mask [1, 1, T, P + T] has to be given.
        """
        rows, length, width = x.shape
        fused, head = self.qkv(x), width // self.heads
        # Under tensor parallelism these are this rank's share of the heads.
        q, k, v = fused.view(rows, length, fused.shape[-1] // (3 * head), 3, head).permute(3, 0, 2, 1, 4)
        q, k = rotate(q, rotation), rotate(k, rotation)
        if past is not None:
            k, v = past.extended(k, v)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        projected: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return projected


@final
class SwiGLU(nn.Module):
    """The gated feed-forward layer (arXiv:2002.05202)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        # Rows of up: group by group, each its gates and values, as with qkv.
        self.group = config.ffn_width // config.ffn_groups
        self.up = nn.Linear(config.width, 2 * config.ffn_width, bias=False)
        self.out = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] → [B, T, width]."""
        fused = self.up(x)
        gate, value = fused.unflatten(-1, (fused.shape[-1] // (2 * self.group), 2, self.group)).unbind(-2)
        projected: Tensor = self.out((F.silu(gate) * value).flatten(-2))
        return projected


@final
class Block(nn.Module):
    """Attention, then feed-forward, each around the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.width)
        self.ffn = SwiGLU(config)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, past: LayerCache | None = None
    ) -> Tensor:
        """[B, T, width] → [B, T, width]."""
        x = x + self.attention(self.attention_norm(x), rotation, mask, past)
        done: Tensor = x + self.ffn(self.ffn_norm(x))
        return done


@final
class GPT(nn.Module):
    """The model. Seed torch before making it: the weights are drawn from its global generator."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.RMSNorm(config.width)
        half = config.width // config.heads // 2
        angle = torch.outer(torch.arange(config.seq_len), _ROTARY_BASE ** (-torch.arange(half) / half))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self._token_range_checked = False
        self.label_smoothing = 0.0  # the share of a target spread over all tokens while training; `train` sets it
        self._draw_weights()

    def _draw_weights(self) -> None:
        residual = _INIT_STD / (2 * self.config.layers) ** 0.5
        for name, weight in self.named_parameters():
            if weight.ndim >= 2:
                nn.init.normal_(weight, std=residual if name.endswith(".out.weight") else _INIT_STD)
        with torch.no_grad():
            # Drawn part by part, laid out group by group: where the rows lie changes no number of the function.
            for block in self.blocks:
                attention, ffn = cast("Block", block).attention, cast("Block", block).ffn
                attention.qkv.weight.copy_(group_rows(attention.qkv.weight, 3, self.config.heads))
                ffn.up.weight.copy_(group_rows(ffn.up.weight, 2, self.config.ffn_groups))

    def forward(
        self,
        tokens: Tensor,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        past: KVCache | None = None,
    ) -> Tensor:
        """Logits [B, T, vocab_size].

        Args:
            tokens: int64 [B, T].
            segment_ids: [B, T], one number a document of the row, 0 for padding; None: each row is one document.
            position_ids: int64 [B, T], from 0 in each segment; None: counted from `segment_ids`.
            past: what came before these tokens, of one document a row; they are added to it. Then neither segments nor
                positions are asked for.
        """
        mask = None if segment_ids is None else attention_mask(segment_ids)
        if past is not None:
            position_ids, mask = past.places(tokens)
        elif position_ids is None:
            position_ids = positions(tokens if segment_ids is None else segment_ids, whole=segment_ids is None)
        rotation = self.rotation(position_ids)
        x = self.embedding(tokens)
        for place, block in enumerate(self.blocks):
            x = block(x, rotation, mask) if past is None else block(x, rotation, mask, past.layers[place])
        # Tied: the output layer is the embedding read the other way.
        return F.linear(self.norm(x), self.embedding.weight)

    def rotation(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, 1, T, half] of positions [B, T]: every head of a token turns alike."""
        return self.cos[position_ids].unsqueeze(1), self.sin[position_ids].unsqueeze(1)

    def loss_sum(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Cross-entropy summed over the batch's targets, in nats (float32 scalar), and their number (int64 scalar).

        Args:
            batch: `tokens` [B, T]; `segment_ids`, `position_ids` [B, T] and a row `mask` [B] (False: padding) if any.

        Raises:
            TrainError: the batch has no such tokens, too long a row, or a token beyond the vocabulary.
        """
        tokens, segments = self.checked(batch)
        logits = self(tokens, segments, batch.get("position_ids") if segments is not None else None)
        wanted = targets(tokens, segments, batch.get("mask"))
        return self.summed_loss(logits, wanted), (wanted != IGNORED).sum()

    def summed_loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy of logits [B, T, vocab_size] summed over targets [B, T] that are not IGNORED, in nats."""
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(
            logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED, reduction="sum",
            label_smoothing=smoothing,
        )  # fmt: skip

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean cross-entropy per target in nats, a float32 scalar; arguments and errors as for `loss_sum`."""
        total, count = self.loss_sum(batch)
        return total / count

    def parameter_count(self) -> int:
        """Trained numbers; the tied embedding counts once."""
        return sum(weight.numel() for weight in self.parameters())

    def flops_per_target(self) -> float:
        """Operations of a training step per target, see `datapipe.train.meter`; the tied output layer counts once."""
        shape = self.config
        return 6.0 * self.parameter_count() + 12.0 * shape.layers * shape.width * shape.seq_len

    def checked(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The batch's tokens as int64 and its segments; errors as for `loss_sum`."""
        tokens = batch.get("tokens") if hasattr(batch, "get") else None
        if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.dtype.is_floating_point:
            got = f"tokens {tuple(tokens.shape)} {tokens.dtype}" if isinstance(tokens, Tensor) else "no tensor 'tokens'"
            raise TrainError(
                f"a batch with {got}",
                expected="a dict with `tokens`, whole numbers [B, T]",
                fix="pack the dataset (the recipe's `pack` step), and leave `tokens` among the columns",
            )
        if tokens.shape[1] > self.config.seq_len:
            raise TrainError(
                f"rows of {tokens.shape[1]} tokens", expected=f"{self.config.seq_len} at most",
                fix=f"GPTConfig(seq_len={tokens.shape[1]})",
            )  # fmt: skip
        # On a GPU the look costs a synchronisation: once, for the mistake of a wrong vocabulary.
        if tokens.numel() and (tokens.device.type == "cpu" or not self._token_range_checked):
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= self.config.vocab_size:
                raise TrainError(
                    f"token {low if low < 0 else high}",
                    expected=f"0 to {self.config.vocab_size - 1}",
                    fix=f"GPTConfig(vocab_size=…) as in the dataset's tokenizer.json: at least {high + 1}",
                )
            self._token_range_checked = True
        segments: Tensor | None = batch.get("segment_ids")
        return tokens.long(), segments


def group_rows(weight: Tensor, parts: int, groups: int) -> Tensor:
    """Rows of `parts` layers laid end to end [parts x n, …] → group by group, each with its rows of every part.

    A fused layer in this order is cut for tensor parallelism by contiguous rows (as in Megatron-LM, its fused QKV).
    """
    rest = weight.shape[1:]
    return weight.reshape(parts, groups, -1, *rest).transpose(0, 1).reshape(-1, *rest)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn channel pairs (i, i + half) of x [B, H, T, 2 x half] by their position's angles (arXiv:2104.09864)."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def attention_mask(segment_ids: Tensor) -> Tensor:
    """A bool [B, 1, T, T]: a token sees those of its own segment that are not after it (padding sees padding)."""
    length = segment_ids.shape[1]
    same = segment_ids.unsqueeze(2) == segment_ids.unsqueeze(1)
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    return (same & causal).unsqueeze(1)


def positions(ids: Tensor, *, whole: bool = False) -> Tensor:
    """An int64 [B, T]: from 0 in each run of equal `ids` [B, T]; along the whole row if `whole`."""
    place = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    if whole:
        return place
    begins = torch.ones_like(ids, dtype=torch.bool)
    begins[:, 1:] = ids[:, 1:] != ids[:, :-1]
    return place - torch.where(begins, place, 0).cummax(dim=1).values


def targets(tokens: Tensor, segment_ids: Tensor | None, row_mask: Tensor | None = None) -> Tensor:
    """An int64 [B, T]: the token that follows in the same segment, else IGNORED (padding, borders, rows masked out)."""
    wanted = torch.full_like(tokens, IGNORED)
    wanted[:, :-1] = tokens[:, 1:]
    if segment_ids is not None:
        follows = (segment_ids[:, :-1] == segment_ids[:, 1:]) & (segment_ids[:, :-1] != 0)
        wanted[:, :-1].masked_fill_(~follows, IGNORED)
    if row_mask is not None:
        wanted.masked_fill_(~row_mask.bool().unsqueeze(1), IGNORED)
    return wanted
