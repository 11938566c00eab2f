"""Smaller and faster models: thin recipes over peft, torch.nn.utils.prune and torchao, and their price.

lora        fine-tuning by small matrices beside the weights
distilled   a shallower model that learns from its teacher's probabilities
pruned      the smallest weights set to zero; whole channels taken out
int8        weights in one byte each
recipes     all of them from a trained model to its smaller kin
price       size, step time, latency and loss, side by side
"""

from datapipe.train.smaller.price import Price, Variant, prices
from datapipe.train.smaller.recipes import METHODS, Recipe, shrink

__all__ = ["METHODS", "Price", "Recipe", "Variant", "prices", "shrink"]
