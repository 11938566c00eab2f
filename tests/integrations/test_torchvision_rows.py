"""A transform that draws from torch's own generator gives each row the same picture, wherever it is called."""

import pickle
import random

import numpy as np
import pytest
import torch

from datapipe.errors import ConfigError, DecodeError
from datapipe.integrations.torchvision_rows import EachPicture
from datapipe.loader.transform import RowKeys
from datapipe.loader.worker import INSIDE

simplejpeg = pytest.importorskip("simplejpeg")

PHOTOS = [
    simplejpeg.encode_jpeg(np.full((20, 30, 3), 10 * row, np.uint8) + np.arange(30, dtype=np.uint8)[None, :, None])
    for row in range(6)
]


def drawn(picture):
    """A picture's corner and what three generators gave."""
    assert (picture.dtype, picture.shape) == (torch.uint8, (3, 20, 30))
    return torch.tensor([float(picture[0, 0, 0]), torch.rand(()).item(), random.random(), np.random.random()])  # noqa: NPY002


def called(transform, rows=range(6), *, seed=1, **columns):
    keys = RowKeys(seed=seed, epoch=0, rows=np.array(list(rows)))
    return transform({"image": [PHOTOS[row] for row in rows], **columns}, keys)["image"]


def test_draws_are_keyed_by_row(monkeypatch):
    """In any order, batch and process; another seed gives others. Columns beside it stay."""
    monkeypatch.setenv(INSIDE, "1")
    each = pickle.loads(pickle.dumps(EachPicture(drawn)))
    whole = called(each)
    assert whole.shape == (6, 4)
    assert len(np.unique(whole[:, 1:])) == 18
    assert np.array_equal(called(each, [4, 1]), whole[[4, 1]])
    assert not np.array_equal(called(each, seed=2)[:, 1:], whole[:, 1:])
    named = called(each, row_id=[f"row {row}" for row in range(6)])
    assert not np.array_equal(named[:, 1:], whole[:, 1:])
    batch = each(
        {"image.bytes": PHOTOS[:1], "image.path": ["a"], "label": [3]}, RowKeys(seed=1, epoch=0, rows=np.array([0]))
    )
    assert sorted(batch) == ["image", "label"]


def test_in_the_training_process_it_is_refused():
    """There the generators that it seeds would be those of the training."""
    with pytest.raises(ConfigError, match='workers="process"'):
        called(EachPicture(drawn))


def test_a_picture_that_cannot_be_decoded_is_named(monkeypatch):
    monkeypatch.setenv(INSIDE, "1")
    with pytest.raises(DecodeError) as caught:
        EachPicture(drawn)({"image": [PHOTOS[0], None]}, RowKeys(seed=1, epoch=0, rows=np.array([7, 9])))
    assert "row 9" in caught.value.__notes__[0]


def test_torchvisions_own_transforms(monkeypatch):
    """v2 in a worker: keyed crops and flips as float tensors."""
    v2 = _v2()
    monkeypatch.setenv(INSIDE, "1")
    each = EachPicture(
        v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])
    )
    whole = called(each)
    assert (whole.shape, whole.dtype) == ((6, 3, 16, 16), np.float32)
    assert whole.max() <= 1
    assert np.array_equal(called(each, [5, 2]), whole[[5, 2]])
    assert not np.array_equal(called(each, seed=2), whole)


def _v2():
    try:
        from torchvision.transforms import v2
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        pytest.skip(f"no torchvision that fits this torch: {error}")
    return v2
