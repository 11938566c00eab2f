"""Arguments are checked at the edge."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.errors import ConfigError
from datapipe.loader.arguments import collate_function, one_of, thread_count, whole_number


def test_whole_numbers():
    assert whole_number("n", np.int32(5), 1) == 5
    for bad in (0, 1.0, "3", True, None):
        with pytest.raises(ConfigError, match="n="):
            whole_number("n", bad, 1)


def test_threads():
    assert 1 <= thread_count("auto") <= 4
    assert thread_count(3) == 3
    for bad in (0, "many", 1.5):
        with pytest.raises(ConfigError, match="num_threads"):
            thread_count(bad)


def test_one_of_tells_true_from_one():
    one_of("x", True, (True, False))
    for bad in (1, "True", None):
        with pytest.raises(ConfigError, match="x="):
            one_of("x", bad, (True, False))


def test_collate():
    assert collate_function("arrow") is None
    assert collate_function("numpy")({"a": 1}) == {"a": 1}
    assert collate_function(len) is len
    with pytest.raises(ConfigError, match="tensorflow"):
        collate_function("tensorflow")


def test_collate_to_torch_shares_memory():
    torch = pytest.importorskip("torch")
    array = np.arange(6).reshape(2, 3)
    batch = collate_function("torch")({"a": array, "s": ["x"]})
    assert isinstance(batch["a"], torch.Tensor)
    array[0, 0] = 9
    assert batch["a"][0, 0] == 9
    assert batch["s"] == ["x"]
