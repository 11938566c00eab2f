"""Checkpoints: there whole or not at all, and found out when damaged."""

import json
import os
import stat
import threading

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from datapipe.errors import CheckpointError, NoSpaceError, TrainError
from datapipe.train import checkpoint as saved
from datapipe.train import latest_checkpoint, load_checkpoint, train
from datapipe.train.checkpoint_files import file_record, only_run_in
from datapipe.train.checkpoint_saver import Saver
from datapipe.train.model import group_rows
from datapipe.train.model_state import model_state

STATE = {"config": {"lr": 0.5}, "loader": {"epoch": 1, "position": 7}, "random": {"torch": "é"}}


@pytest.fixture
def save(tmp_path, make_model):
    def save(step=100, keep=5, model=None, optimizer=None, score=None, best=False):
        moments = {"norm.weight/exp_avg": torch.arange(3.0)} if optimizer is None else optimizer
        tensors = model_state(model or make_model()) | {f"optimizer/{name}": value for name, value in moments.items()}
        saver = Saver(tmp_path / "checkpoints", keep=keep, best=best)
        saver.save(step, tensors, STATE, score=score)
        return saver.newest

    return save


def test_what_is_saved_is_loaded(tmp_path, save, make_model):
    """Weights and state come back bit for bit, from the step's folder or the run's."""
    path = save()
    assert path == tmp_path / "checkpoints" / "step-00000100" == latest_checkpoint(tmp_path)
    for place in (path, tmp_path, tmp_path / "checkpoints"):
        point = load_checkpoint(place)
        assert (point.path, point.step) == (path, 100)
        assert {name: point.state[name] for name in STATE} == STATE
    other = make_model(seed=9)
    point.load_model(other)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), make_model().parameters(), strict=True))
    assert point.model_tensors().keys() == make_model().state_dict().keys()
    assert point.optimizer_tensors()["norm.weight/exp_avg"].tolist() == [0, 1, 2]


def test_its_files_are_readable_like_any_other(save):
    """The three files have one mode, that of a file made by open()."""
    modes = {stat.S_IMODE(path.stat().st_mode) for path in save().iterdir()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {0o666 & ~mask}


def test_only_the_newest_are_kept(tmp_path, save):
    for step in (5, 10, 9, 200, 100_000_000):
        save(step=step, keep=2)
    assert [path.name for path in saved.checkpoints(tmp_path)] == ["step-00000200", "step-100000000"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000200", "step-100000000"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a flipped bit in the weights": lambda p: flip(p / "model.safetensors"),
    "a flipped bit in the optimizer": lambda p: flip(p / "optimizer.safetensors"),
    "truncated weights": lambda p: os.truncate(p / "model.safetensors", 100),
    "no weights": lambda p: (p / "model.safetensors").unlink(),
    "no state": lambda p: (p / "state.json").unlink(),
    "a torn state": lambda p: os.truncate(p / "state.json", 80),
    "a state that is no object": lambda p: (p / "state.json").write_text("[1]"),
    "an empty state": lambda p: (p / "state.json").write_text("{}"),
    "a changed state": lambda p: (p / "state.json").write_text(
        (p / "state.json").read_text().replace('"position": 7', '"position": 8')
    ),
    "binary garbage": lambda p: (p / "state.json").write_bytes(b"\xff\x00\x93"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_and_passed_over_only_where_asked(tmp_path, save, damage):
    """Every damage is a CheckpointError with its remedy; `fallback` goes to the one before."""
    before, newest = save(step=50), save(step=100)
    damage(newest)
    with pytest.raises(CheckpointError, match="step-00000100") as fault:
        load_checkpoint(tmp_path)
    assert 'resume="fallback"' in fault.value.fix
    assert load_checkpoint(tmp_path, fallback=True).path == before
    damage(before)
    with pytest.raises(CheckpointError, match="step-00000050"):
        load_checkpoint(tmp_path, fallback=True)


def test_a_checkpoint_of_a_later_version_is_refused(save):
    path = save()
    body = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(body | {"version": 3}))
    with pytest.raises(CheckpointError, match="version 3"):
        load_checkpoint(path)


def test_a_checkpoint_of_version_1_reads_as_well(tmp_path, save, make_model, make_config, make_loader):
    """One process's two files without an index: weights, moments and state are found, and a run goes on from it."""
    path = tmp_path / "old" / "checkpoints" / "step-00000002"
    path.mkdir(parents=True)
    first = train(make_config(), make_loader(), out=tmp_path / "new", until=2)
    new = load_checkpoint(first.checkpoint)
    shape = first.model.config

    def as_it_was(name, tensor):  # the fused layers' rows lay part by part
        parts = 3 if ".qkv." in name else 2 if ".up." in name else 1
        groups = {3: shape.heads, 2: shape.ffn_groups, 1: 1}[parts]
        return group_rows(tensor, groups, parts).contiguous() if parts > 1 and tensor.ndim > 1 else tensor

    files = {}
    for name, tensors in (("model", new.model_tensors()), ("optimizer", new.optimizer_tensors())):
        file = path / f"{name}.safetensors"
        save_file({key: as_it_was(key, tensor) for key, tensor in tensors.items()}, file)
        files[file.name] = file_record(file)
    kept = {name: new.state[name] for name in ("config", "loader", "step")}
    body = {"version": 1, "random": new.state["random"][0], "files": files, **kept}
    (path / "state.json").write_text(saved.sealed(body))
    old = load_checkpoint(tmp_path / "old")
    for part in ("model_tensors", "optimizer_tensors"):
        assert getattr(old, part)().keys() == getattr(new, part)().keys()
    on = [train(make_config(), make_loader(), out=tmp_path / name, until=4) for name in ("old", "new")]
    assert on[0].losses == on[1].losses
    assert on[0].resumed_from == 2


HOSTILE = {
    "a file elsewhere": lambda t: t["chunks"][0].__setitem__(0, "../../model.safetensors"),
    "a chunk beyond its tensor": lambda t: t["chunks"][0].__setitem__(1, [5, 0]),
    "a negative offset": lambda t: t["chunks"][0].__setitem__(1, [-1, 0]),
    "a missing chunk": lambda t: t.__setitem__("chunks", []),
    "a shape larger than the file": lambda t: t.update(
        shape=[1 << 40, 1 << 40], chunks=[["model.safetensors", [0, 0], [1 << 40, 1 << 40]]]
    ),
    "chunks that overlap": lambda t: t.__setitem__(
        "chunks", [["model.safetensors", [0, 0], [30, 16]]] * 2 + [["model.safetensors", [60, 0], [1, 16]]]
    ),
    "nothing, but of a shape that no tensor has": lambda t: t.update(shape=[0, 1 << 100], chunks=[]),
    "an unknown dtype": lambda t: t.__setitem__("dtype", "__class__"),
    "no chunks": lambda t: t.pop("chunks"),
    "a list of something else": lambda t: t.__setitem__("chunks", [["model.safetensors", {}, "x"]]),
}


@pytest.mark.parametrize("spoil", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_index_that_lies_is_refused_before_anything_is_read(save, spoil):
    """Its checksum is right: somebody wrote it so."""
    path = save()
    forged(path, lambda body: spoil(body["tensors"]["model/embedding.weight"]))
    with pytest.raises(CheckpointError, match="step-00000100"):
        load_checkpoint(path)


def forged(path, spoil):
    """A state.json whose checksum is right."""
    body = json.loads((path / "state.json").read_text())
    body.pop("checksum")
    spoil(body)
    (path / "state.json").write_text(saved.sealed(body))


def test_no_file_is_opened_by_a_name_of_another_folder(save, monkeypatch):
    """Nor read to its end, as /dev/zero would be for ever."""
    path = save()
    forged(path, lambda body: body["files"].update({"../../secret": {"bytes": 1, "xxh3_128": "0"}}))
    monkeypatch.setattr(saved, "file_record", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(CheckpointError, match="secret"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "lie", [{"dtype": "int8"}, {"shape": [16, 61], "chunks": [["model.safetensors", [0, 0], [16, 61]]]}]
)
def test_an_index_of_other_tensors_than_the_files_hold_is_refused(save, make_model, lie):
    """Nothing is cast, and nothing stretched to fit."""
    path = save()
    forged(path, lambda body: body["tensors"]["model/embedding.weight"].update(lie))
    with pytest.raises(CheckpointError, match=r"embedding\.weight is float32"):
        load_checkpoint(path).model_tensors()
    with pytest.raises(CheckpointError, match=r"embedding\.weight"):
        load_checkpoint(path).load_model(make_model())


def test_a_model_of_another_dtype_is_refused(save, make_model):
    """A run that goes on in rounded weights computes something else."""
    with pytest.raises(CheckpointError, match="float32.*bfloat16"):
        load_checkpoint(save()).load_model(make_model().bfloat16())


FORGED = {
    "nested too deep": "[" * 100_000,
    "a version of lists": lambda body: body.update(version=[1]),
    "a step that is no number of steps": lambda body: body.update(step=float("inf")),
    "no config": lambda body: body.pop("config"),
    "no loader": lambda body: body.pop("loader"),
    "another config": lambda body: body["config"].update(model="x"),
    "generators beyond their range": lambda body: body["random"][0]["numpy"][1].__setitem__(0, 1 << 70),
    "generators cut short": lambda body: body["random"][0]["numpy"].__setitem__(1, [1]),
    "a watch of nothing": lambda body: body.update(watch={}),
    "windows that are none": lambda body: body["watch"].update(spikes={"losses": 5}),
}


def test_a_run_refuses_a_state_that_is_none_in_words(tmp_path, make_config, make_loader):
    """Whatever is in it: a CheckpointError that names the checkpoint."""
    train(make_config(steps=1), make_loader(), out=tmp_path)
    path = tmp_path / "checkpoints/step-00000001"
    good = (path / "state.json").read_text()
    for what, spoil in FORGED.items():
        (path / "state.json").write_text(spoil if isinstance(spoil, str) else good)
        if not isinstance(spoil, str):
            forged(path, spoil)
        with pytest.raises(CheckpointError, match="step-00000001"):
            pytest.fail(f"{what} went unseen: {train(make_config(steps=2), make_loader(), out=tmp_path)}")


def test_where_there_is_none_it_says_so(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "nowhere") is None
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "step-00000003"):
        with pytest.raises(CheckpointError):
            load_checkpoint(place)


def test_another_models_weights_are_refused(save, make_model):
    point = load_checkpoint(save())
    with pytest.raises(CheckpointError, match="another model"):
        point.load_model(make_model(width=32))
    with pytest.raises(CheckpointError, match="another model"):
        point.load_model(make_model(layers=3))


def test_tied_weights_are_saved_once_and_tied_again(save):
    """Two names of one tensor, as in many models: safetensors refuses them bare."""

    def tied():
        module = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5, bias=False))
        module[1].weight = module[0].weight
        return module

    model, other = tied(), tied()
    point = load_checkpoint(save(model=model))
    point.load_model(other)
    assert torch.equal(other[0].weight, model[0].weight)
    assert other[1].weight is other[0].weight
    assert len(point.model_tensors()) == 1


NO_SPACE = {
    "Python's own": OSError(28, "No space left on device"),
    "a quota": OSError(122, "Disk quota exceeded"),
    "safetensors'": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
}


@pytest.mark.parametrize("fault", NO_SPACE.values(), ids=NO_SPACE.keys())
def test_a_full_disk_leaves_earlier_checkpoints_as_they_were(tmp_path, save, monkeypatch, fault):
    """It is a NoSpaceError, nothing half-written stays, and what was there still loads."""
    import safetensors.torch

    before = save(step=1)

    def full(*args, **kwargs):
        raise fault

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(NoSpaceError, match="step-00000002"):
        save(step=2)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert load_checkpoint(tmp_path).path == before


def test_a_real_write_error_is_ours(tmp_path, save):
    """A file where the folder should be: a CheckpointError that names it."""
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(CheckpointError, match="checkpoints"):
        save()


def test_sweeping_removes_what_a_killed_process_left(tmp_path, save):
    root = save().parent
    for name in (".tmp-step-00000200", ".old-step-00000050"):
        (root / name).mkdir()
        (root / name / "model.safetensors").write_bytes(b"half")
    (root / "my notes").mkdir()
    saved.sweep(root)
    assert sorted(path.name for path in root.iterdir()) == ["my notes", "step-00000100"]


def test_two_runs_do_not_share_a_folder(tmp_path):
    """The second is told; when the first has ended, the folder is free."""
    faults = []

    def second():
        try:
            with only_run_in(tmp_path):
                pass
        except TrainError as fault:
            faults.append(str(fault))

    with only_run_in(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(faults) == 1
    assert "another process trains" in faults[0]
    second()
    assert len(faults) == 1
