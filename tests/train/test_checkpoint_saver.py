"""Written beside the run: what is saved, what is waited for, what is raised and when."""

import threading

import pytest
import torch

from datapipe.errors import CheckpointError, NoSpaceError
from datapipe.train import checkpoint, checkpoint_storage, load_checkpoint
from datapipe.train.checkpoint_saver import Saver


@pytest.fixture
def held(monkeypatch):
    """Files are written at once, and are on the disk when this is set."""
    gate = threading.Event()
    real = checkpoint_storage.sync_file

    def late(path):
        assert gate.wait(60)
        real(path)

    monkeypatch.setattr(checkpoint_storage, "sync_file", late)
    yield gate
    gate.set()


def saver(tmp_path, **told):
    return Saver(tmp_path, **{"keep": 5, "lag": 2} | told)


def weights(value):
    return {"model/w": torch.full((3,), float(value))}


def test_the_run_goes_on_while_it_is_written(tmp_path, held):
    """What it changes meanwhile is not in it; it has its name once all is on the disk, and is due after `lag` steps."""
    live, to = weights(1), saver(tmp_path)
    to.save(10, live, {})
    live["model/w"].fill_(7)
    assert not any(path.name.startswith("step") for path in tmp_path.iterdir())
    assert (to.newest, to.due(10), to.due(11), to.due(12)) == (None, False, False, True)
    held.set()
    to.wait()
    assert to.newest == tmp_path / "step-00000010"
    assert load_checkpoint(to.newest).model_tensors()["w"].tolist() == [1, 1, 1]
    assert not to.due(12)
    to.wait()


def test_one_is_written_at_a_time(tmp_path, held):
    """The second waits for the first."""
    to = saver(tmp_path, lag=9)
    to.save(1, weights(1), {})
    threading.Timer(0.05, held.set).start()
    to.save(2, weights(2), {})
    assert to.newest == tmp_path / "step-00000001"
    to.wait()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize(("number", "kind"), [(28, NoSpaceError), (5, CheckpointError)])
def test_a_fault_of_the_write_is_raised_at_the_next_look_and_spoils_nothing(tmp_path, monkeypatch, number, kind):
    """The one before is whole, nothing of the failed one stays, and the next may work."""
    to = saver(tmp_path)
    to.save(1, weights(1), {})
    to.wait()
    broken = threading.Event()

    def fails(path):
        broken.set()
        raise OSError(number, "of the disk")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_storage, "sync_file", fails)
        to.save(2, weights(2), {})
        assert broken.wait(60)
        with pytest.raises(kind, match="step-00000002"):
            to.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert load_checkpoint(tmp_path).model_tensors()["w"].tolist() == [1, 1, 1]
    to.save(3, weights(3), {})
    to.wait()
    assert to.newest == tmp_path / "step-00000003"


def test_leaving_by_an_error_lets_the_write_end_and_keeps_the_error(tmp_path, held, monkeypatch):
    """Also when the write fails too."""
    to = saver(tmp_path)

    def leave(step):
        with to:
            to.save(step, weights(1), {})
            held.set()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave(1)
    assert to.newest == tmp_path / "step-00000001"

    def fails(path):
        raise OSError(28, "full")

    monkeypatch.setattr(checkpoint_storage, "sync_file", fails)
    with pytest.raises(ZeroDivisionError):
        leave(2)
    with pytest.raises(NoSpaceError), to:
        to.save(3, weights(1), {})


def test_the_best_is_kept_beside_the_newest(tmp_path):
    """The lowest score, if it is asked for; those without one are no candidates."""
    for best, kept in ((False, [5]), (True, [2, 5])):
        to = saver(tmp_path / str(best), keep=1, best=best, lag=0)
        for step, score in enumerate((None, 0.5, 2.0, float("nan"), 0.7), 1):
            to.save(step, weights(step), {}, score=score)
        assert [int(path.name[5:]) for path in checkpoint.checkpoints(tmp_path / str(best))] == kept


def test_what_is_no_tensor_never_reaches_a_file(tmp_path):
    """It would be pickled; here it is refused, and nothing stays."""
    to = saver(tmp_path, lag=0)
    with pytest.raises(CheckpointError, match="model/extra.a is no tensor"):
        to.save(1, {**weights(1), "model/extra": {"a": 1}}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_rank_does_not_see_is_named(tmp_path, monkeypatch):
    """As on two machines whose disks are their own: the first rank's folder is made elsewhere."""
    monkeypatch.setattr(checkpoint_storage.SafetensorsWriter, "prepare_global_plan", lambda self, plans: plans)
    to = saver(tmp_path, lag=0)
    with pytest.raises(CheckpointError, match="rank 0 finds no .*tmp-step-00000001") as fault:
        to.save(1, weights(1), {})
    assert "shared file system" in fault.value.fix


def test_every_dtype_and_shape_comes_back(tmp_path):
    """Scalars, empty tensors, views and transposes, half precisions, whole numbers."""
    base = torch.arange(24.0)
    tensors = {
        "model/scalar": torch.tensor(3.5), "model/none": torch.zeros(0, 4), "model/view": base[4:10],
        "model/turned": base.view(4, 6).t(), "model/half": base.half(), "model/bf16": base.bfloat16(),
        "model/bool": base > 3, "optimizer/w/step": torch.tensor(7),
        "optimizer/w/count": torch.arange(3, dtype=torch.int32),
    }  # fmt: skip
    to = saver(tmp_path, lag=0)
    to.save(1, tensors, {})
    point = load_checkpoint(tmp_path)
    found = {f"model/{n}": v for n, v in point.model_tensors().items()}
    found |= {f"optimizer/{n}": v for n, v in point.optimizer_tensors().items()}
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
