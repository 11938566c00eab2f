"""A device on the CPU whose copies finish late and out of order."""

import ctypes
import random

import numpy as np
import pytest

from datapipe.device.engine import CopyEngine

POISON = 0xEE


class LateEngine(CopyEngine):
    """Copies read their source late, at a random moment and in any order, or only when `compute` waits for them.

    Only the address is known to a copy, as to a real one: so a host buffer that is freed or filled anew before its copy
    was done shows in the data. What `allocate` gives counts as page-locked, up to `most` bytes.
    """

    def __init__(self, seed=0, *, most=None, page_locked=False, lazy=False):
        self.random = random.Random(seed)
        self.most = most
        self.page_locked = page_locked
        self.lazy = lazy  # nothing is copied unless somebody waits
        self.waiting = []  # (number, address, the dtype that crosses, shape, destination)
        self.sent = 0
        self.crossed = []
        self.done = set()
        self.reached = 0  # marks up to here
        self.joined = []
        self.given = []
        self.asked = self.finishes = 0

    def allocate(self, nbytes):
        self.asked += 1
        if self.most is not None and sum(len(each) for each in self.given) + nbytes > self.most:
            return None
        memory = memoryview(np.full(nbytes, POISON, np.uint8).data)
        self.given.append(memory)
        return memory

    def is_ready(self, tensor):
        if not self.page_locked:
            return False
        begin = tensor.data_ptr()
        for piece in self.given:
            base = np.frombuffer(piece, np.uint8).__array_interface__["data"][0]
            if base <= begin and begin + tensor.nbytes <= base + len(piece):
                return tensor.is_contiguous()
        return False

    def send(self, tensor, dtype):
        import torch

        destination = torch.full(tensor.shape, -1).to(dtype or tensor.dtype)
        self.crossed.append((tensor.dtype, tuple(tensor.shape)))
        self.waiting.append((self.sent, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), destination))
        self.sent += 1
        self.progress(1)
        return destination

    def progress(self, most):
        if not self.lazy:
            for _ in range(self.random.randint(0, most)):
                self.perform()

    def perform(self, before=None):
        """One copy of those that wait (of those sent before that number), in any order."""
        import torch

        places = [at for at, (number, *_) in enumerate(self.waiting) if before is None or number < before]
        if not places:
            return
        number, pointer, dtype, shape, destination = self.waiting.pop(self.random.choice(places))
        size = destination.numel() * torch.empty(0, dtype=dtype).element_size()
        if size:
            raw = bytearray(ctypes.string_at(pointer, size))
            destination.copy_(torch.frombuffer(raw, dtype=dtype).view(shape))
        self.done.add(number)
        while self.reached in self.done:
            self.reached += 1

    def mark(self):
        return self.sent

    def passed(self, mark):
        self.progress(2)
        return self.reached >= mark

    def join(self, mark, tensors):
        self.joined.append((mark, tensors))

    def compute(self):
        """What a kernel launched now would wait for: all copies that the compute stream was told to."""
        mark = max((mark for mark, _ in self.joined), default=0)
        while self.reached < mark:
            self.perform(before=mark)

    def finish(self):
        self.finishes += 1
        while self.waiting:
            self.perform()


@pytest.fixture(scope="session")
def late_engine():
    return LateEngine
