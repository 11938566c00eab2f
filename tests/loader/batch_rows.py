"""The rows of a batch as plain values, those that pad it left out."""

from __future__ import annotations

import numpy as np


def real_ids(batch):
    keep = batch.get("mask", np.ones(len(batch["id"]), bool))
    return np.asarray(batch["id"])[np.asarray(keep)].tolist()
