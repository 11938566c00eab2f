"""Weights in one byte each: torchao's int8, weight only.

What enters: a trained GPT. What leaves: a copy that computes the same within the rounding. Invariant: each row of a
Linear's weight is int8 times one scale, so a weight is off by half a step at most: the row's largest over 254; norms
and the embedding, which is read both ways, stay as they are.
"""

from __future__ import annotations

import copy
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.train.model import GPT


def int8_weights(model: GPT) -> GPT:
    """A copy with int8 weights, for inference; it has no gradients.

    Raises:
        ConfigError: torchao is not installed.
    """
    with quiet_imports("int8 weights"):
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    found = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    # Its settings for torch.compile are the process's; nothing here is compiled.
    quantize_(found, Int8WeightOnlyConfig(set_inductor_config=False))
    return found


@contextmanager
def quiet_imports(what: str) -> Iterator[None]:
    """Import torchao or peft without what they log of CUDA libraries that are not there.

    Raises:
        ConfigError: it is not installed.
    """
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"{what} without {error.name or error}", expected="the extra `shrink`",
            fix='pip install "datapipe-toolkit[shrink]"',
        ) from error  # fmt: skip
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
