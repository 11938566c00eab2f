"""Transforms that worker processes can import; run by test_workers."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa


def double(batch):
    return {**batch, "twice": batch["id"] * 2, "pid": os.getpid()}


def of_columns(columns, keys):
    """Before collate: plain arrays and lists."""
    twice = 2 * columns["id"]
    if isinstance(twice, np.ndarray):
        out = keys.empty(twice.shape, twice.dtype)
        out[:] = twice
        twice = out
    return {**columns, "twice": twice}


of_columns.takes = "columns"


def slowly(batch):
    time.sleep(0.02)
    return batch


def keyed(batch, keys):
    """Draws by (seed, epoch, row), as an array, or as a tensor where it can be one."""
    draws = [np.random.default_rng((keys.seed, keys.epoch, int(row))).random() for row in keys.rows]
    return {**batch, "draw": np.array(draws)}


def of_table(table: pa.Table) -> pa.Table:
    return table.append_column("twice", pa.array([2 * i for i in table.column("id").to_pylist()]))


def refuse_row(table: pa.Table, row=37) -> pa.Table:
    if row in table.column("id").to_pylist():
        raise ValueError(f"row {row} is not to my liking")
    return table


def refuse_batch(batch, row=37):
    if row in batch["id"].tolist():
        raise KeyError(f"row {row}")
    return batch


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raise_unpicklable(batch):
    raise Unpicklable("this", "that")


def raise_stop(batch):
    raise StopIteration


def return_function(batch):
    return lambda: batch


def leave(batch):
    sys.exit("done")


def collate(batch):
    return [(int(i), os.getpid()) for i in batch["id"]]


class DieOnce:
    """Kills its process at a row, the first time that a file is not there."""

    def __init__(self, flag, row=37, *, always=False):
        self.flag = str(flag)
        self.row = row
        self.always = always

    def __call__(self, batch):
        if self.row in batch["id"].tolist() and (self.always or not Path(self.flag).exists()):
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch


def sleep(batch, seconds=600.0, told=None):  # longer than any test waits for the process's end
    if told is not None:
        Path(told).touch()
    time.sleep(seconds)
    return batch


def hold_lock(batch, seconds=0.005):
    """Python code that never lets go of the interpreter lock for long."""
    end = time.thread_time() + seconds
    n = 0
    while time.thread_time() < end:
        n += 1
    return batch


def pixels(values, keys):
    """A picture of 12 bytes as [2, 2, 3], with noise that is the row's own."""
    rows = keys.rows
    noise = ((rows * 31 + keys.seed * 17 + keys.epoch) % 100)[:, None, None, None] / 1000
    return (np.frombuffer(b"".join(values), np.uint8).reshape(-1, 2, 2, 3) + noise).astype(np.float32)


def words_of(values):
    """Ids of words, padded, and which of them are there."""
    most = max((len(text.split()) for text in values), default=0)
    mask = np.array([[i < len(text.split()) for i in range(most)] for text in values], bool).reshape(-1, most)
    return {"ids": mask.astype(np.int64), "ids_mask": mask}
