"""Scripts run unmodified under a profile: what they print and return is theirs, what they did is in the profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import datapipe
from datapipe import events
from datapipe.errors import ConfigError, DatapipeError
from datapipe.integrations.script import profile_script
from datapipe.profiling import load_profile
from datapipe.profiling.span_file import load_spans

torch = pytest.importorskip("torch")


def names(summary):
    return {part.name for part in summary.parts}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_mlp_on_tensors(scripts, tmp_path, capsys, workers):
    """Steps, phases, epochs and the evaluation pass are found; every training batch is one step, no other is."""
    code = profile_script([scripts("mlp"), "--epochs", "2", "--workers", str(workers)], tmp_path / "out")
    assert code == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["epoch", "0"], ["epoch", "1"]]
    summary = load_profile(tmp_path / "out")
    assert summary.series.count == 60
    assert summary.epochs == 2
    assert summary.samples == 960
    assert {"wait", "forward", "backward", "optimizer"} <= names(summary)
    assert any(part.name.startswith("evaluate") and part.total > 0 for part in summary.run)
    assert summary.complete
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns


def test_a_heavy_cnn_is_not_input_bound(scripts, tmp_path, capsys):
    """A run whose batches cost nothing and whose convolutions cost a lot is bound by its compute; saving is named."""
    assert profile_script([scripts("cnn")], tmp_path / "out") == 0
    summary = load_profile(tmp_path / "out")
    assert capsys.readouterr().out == "trained\n"
    assert summary.verdict.kind == "not input-bound"
    assert summary.verdict.bottleneck in ("forward", "backward", "optimizer")
    assert any(part.name.startswith("checkpoint") for part in summary.run)
    assert summary.series.count == 24


@pytest.mark.parametrize("workers", [0, 2])
def test_a_slow_stream_is_input_bound(scripts, tmp_path, capsys, workers):
    """A dataset that sleeps 20 ms a sample is what bounds the run, and every sample still arrives."""
    assert profile_script([scripts("stream"), str(workers)], tmp_path / "out") == 0
    assert capsys.readouterr().out == "seen 64\n"
    summary = load_profile(tmp_path / "out")
    assert summary.verdict.kind == "input-bound"
    assert summary.verdict.bottleneck == "dataset"
    assert summary.part("wait").share > 0.5


def test_our_own_loader_is_seen_stage_by_stage(scripts, tmp_path):
    """`datapipe.DataLoader` in a script: its threads record themselves, each batch is one step."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    for part in range(2):
        table = pa.table({"x": pa.array([float(i) for i in range(400)])})
        pq.write_table(table, tmp_path / "data" / f"{part}.parquet", row_group_size=100)
    text = """
        import datapipe
        loader = datapipe.DataLoader(datapipe.open_dataset("data"), batch_size=20)
        for epoch in range(2):
            for batch in loader:
                assert batch["x"].shape == (20,)
    """
    assert profile_script([scripts("ours", text)], tmp_path / "out") == 0
    summary = load_profile(tmp_path / "out")
    assert summary.series.count == 80
    assert summary.epochs == 2
    assert summary.samples == 1600
    assert {"fetch", "decode", "gather", "collate"} <= {row.name for row in summary.stages}
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns


def test_everything_is_put_back(scripts, tmp_path, capsys):
    """After the run no patch, hook, path, argument or recorder is left."""
    from torch.nn.modules import module
    from torch.optim import optimizer
    from torch.utils.data import DataLoader
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    def state():
        return (
            _BaseDataLoaderIter.__next__, DataLoader.__iter__, torch.autograd.backward, torch.save,
            datapipe.DataLoader.__iter__ if "DataLoader" in dir(datapipe) and _has_loader() else None,
            len(module._global_forward_hooks), len(module._global_forward_pre_hooks),
            len(optimizer._global_optimizer_pre_hooks), len(optimizer._global_optimizer_post_hooks),
            list(sys.argv), list(sys.path), sys.modules["__main__"], events.active(),
        )  # fmt: skip

    before = state()
    profile_script([scripts("mlp"), "--epochs", "1"], tmp_path / "a")
    assert state() == before
    assert profile_script([scripts("broken", "import torch\n1 / 0\n")], tmp_path / "b") == 1
    assert state() == before


def _has_loader():
    try:
        return datapipe.DataLoader is not None
    except ImportError:
        return False


@pytest.mark.parametrize(
    ("text", "code", "complete"),
    [("pass", 0, True), ("import sys; sys.exit()", 0, True), ("import sys; sys.exit(3)", 3, False),
     ("import sys; sys.exit('no data')", 1, False), ("raise KeyboardInterrupt", 130, False)],
)  # fmt: skip
def test_exit_codes_are_the_scripts(scripts, tmp_path, capsys, text, code, complete):
    """However a script ends, its code comes back and its profile is written, marked if it was cut short."""
    assert profile_script([scripts("ends", text)], tmp_path / "out") == code
    assert load_profile(tmp_path / "out").complete is complete
    assert ("no data" in capsys.readouterr().err) is ("no data" in text)


def test_an_exception_is_shown_as_python_shows_it(scripts, tmp_path, capsys):
    """Its traceback begins in the script and the exit code is 1; the steps before it were written."""
    text = """
        import torch
        from torch.utils.data import DataLoader, TensorDataset
        for i, batch in enumerate(DataLoader(TensorDataset(torch.zeros(20, 1)))):
            if i == 12:
                raise ValueError("bad batch")
    """
    path = scripts("fails", text)
    assert profile_script([path], tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{path}", line 6, in <module>'
    assert lines[-1] == "ValueError: bad batch"
    assert "runpy" not in "".join(lines)
    summary = load_profile(tmp_path / "out")
    assert (summary.complete, summary.error, summary.series.count) == (False, "ValueError", 13)


def test_the_script_sees_its_own_world(scripts, tmp_path, capsys):
    """`sys.argv`, `__name__`, `__file__` and imports from beside the script are as without the profile."""
    scripts("neighbour", "value = 41")
    text = """
        import sys
        import neighbour
        print(__name__, sys.argv[1:], neighbour.value, __file__ == sys.argv[0])
    """
    profile_script([scripts("world", text), "--x", "a b"], tmp_path / "out")
    assert capsys.readouterr().out == "__main__ ['--x', 'a b'] 41 True\n"
    sys.modules.pop("neighbour", None)


def test_a_module_runs_too(scripts, tmp_path, capsys):
    """`module=True` runs what `python -m` would."""
    scripts("chosen_module", "import sys; print('ran', sys.argv[1:])")
    profile_script(["chosen_module", "7"], tmp_path / "out", module=True)
    assert capsys.readouterr().out == "ran ['7']\n"


def test_a_module_of_a_package_in_the_working_folder(tmp_path):
    """`datapipe profile -m` finds what `python -m` finds, `__main__` of a package too; what follows is the module's."""
    (tmp_path / "fleet" / "jobs").mkdir(parents=True)
    for package in ("fleet", "fleet/jobs"):
        (tmp_path / package / "__init__.py").touch()
    show = "import sys; from . import load; print(__name__, __package__, sys.argv[1:])"
    (tmp_path / "fleet" / "load.py").touch()
    (tmp_path / "fleet" / "jobs" / "load.py").touch()
    (tmp_path / "fleet" / "train.py").write_text(show)
    (tmp_path / "fleet" / "jobs" / "__main__.py").write_text(show)
    command = [Path(sys.executable).with_name("datapipe"), "profile", "-o", "out", "-m"]
    own = ["-o", "mine", "-m", "x", "--json"]
    for module, package in (("fleet.train", "fleet"), ("fleet.jobs", "fleet.jobs")):
        ran = subprocess.run([*command, module, *own], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert ran.stdout.splitlines()[0] == f"__main__ {package} {own}"
        assert load_profile(tmp_path / "out").title == module
    without = subprocess.run([*command, "fleet"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert without.returncode == 2
    assert "there is no module 'fleet'" in without.stderr


@pytest.mark.parametrize(("argv", "module"), [([], False), (["no-such.py"], False), (["no_such_module"], True)])
def test_nothing_to_run_is_said(tmp_path, argv, module):
    """A missing script or module is the user's error, and leaves no profile."""
    with pytest.raises(ConfigError):
        profile_script(argv, tmp_path / "out", module=module)
    assert not (tmp_path / "out").exists()


def test_loops_inside_loops(scripts, tmp_path):
    """Two loaders zipped are one loop's steps; a loop that is broken out of ends its step; validation is apart."""
    text = """
        import torch
        from torch import nn
        from torch.utils.data import DataLoader, TensorDataset
        def loader(n):
            return DataLoader(TensorDataset(torch.zeros(n, 4)))
        model = nn.Linear(4, 1)
        for (a,), (b,) in zip(loader(15), loader(15)):
            model(a + b).sum().backward()
        for i, (a,) in enumerate(loader(30)):
            model(a).sum().backward()
            if i % 5 == 0:
                with torch.no_grad():
                    for (v,) in loader(3):
                        model(v)
            if i == 9:
                break
        for (a,) in loader(5):
            model(a).sum().backward()
    """
    profile_script([scripts("nested", text)], tmp_path / "out")
    summary = load_profile(tmp_path / "out")
    assert summary.series.count == 15 + 10 + 5
    assert summary.epochs == 3
    assert sum(summary.series.parts_ns["evaluate"]) > 0
    assert summary.notes["evaluate loader"] == "torch.utils.data.DataLoader(num_workers=0)"
    raw = load_spans(tmp_path / "out")
    stage = raw.spans["stage"]
    waits, passes = (raw.spans[stage == raw.stages.index(name)] for name in ("wait", "evaluate"))
    inside = waits[np.isin(waits["start"], passes["start"])]  # each batch of it was asked for as it began
    assert len(inside) == len(passes) > 0
    assert (inside["item"] == -1).all()
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns


def test_a_forward_that_raises_does_not_hide_later_ones(scripts, tmp_path):
    """The depth of nested modules survives an exception in one of them."""
    text = """
        import torch
        from torch import nn
        from torch.utils.data import DataLoader, TensorDataset
        model = nn.Sequential(nn.Linear(4, 4))
        for i, (a,) in enumerate(DataLoader(TensorDataset(torch.zeros(20, 4)))):
            try:
                model(a if i else a[:, :3])
            except RuntimeError:
                pass
    """
    profile_script([scripts("raises", text)], tmp_path / "out")
    forward = load_profile(tmp_path / "out").series.parts_ns["forward"]
    assert all(ns > 0 for ns in forward)


def test_standard_output_is_the_scripts_alone(scripts, tmp_path):
    """In a process of its own too, nothing but the script writes to standard output."""
    path = scripts("speaks", "print('{\"a\": 1}')")
    call = f"from datapipe.integrations.script import profile_script; profile_script([{path!r}], 'out')"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == {"a": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system with fork")
def test_a_forked_child_ends_as_it_would_alone(scripts, tmp_path):
    """A child that comes out of the script has its own exit code, says nothing and writes no profile."""
    forks = """
        import os, sys
        child = os.fork()
        if child == 0:
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.path.exists("out/profile.json"))
    """
    line = [
        sys.executable,
        "-m",
        "datapipe",
        "profile",
        "--quiet",
        "--report-only",
        "-o",
        "out",
        scripts("forks", forks),
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("3 False\n", "")
    assert load_profile(tmp_path / "out").complete


def test_python_itself_shows_the_same(scripts, tmp_path, capsys):
    """An exception in a function, with a cause and a note; and a script that does not compile."""
    text = """
        def inner():
            raise KeyError("x")
        def outer():
            try:
                inner()
            except KeyError as error:
                raised = ValueError("mine")
                raised.add_note("a note")
                raise raised from error
        outer()
    """
    for name, source in (("chained", text), ("unfinished", "x = (1,")):
        path = scripts(name, source)
        assert profile_script([path], tmp_path / name) == 1
        alone = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
        assert capsys.readouterr().err == alone.stderr
        assert load_profile(tmp_path / name).complete is False


def test_a_profile_that_cannot_be_written_is_not_the_scripts_error(scripts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatapipeError):
        profile_script([scripts("fine", "pass")], tmp_path / "file" / "out")


LOOPS = """
    import sys
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, IterableDataset, TensorDataset, get_worker_info

    class Stream(IterableDataset):
        def __iter__(self):
            info = get_worker_info()
            yield from torch.arange(float(info.id if info else 0), 96, info.num_workers if info else 1).reshape(-1, 1)

    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def batches(loader):
        for batch in loader:
            yield batch * 2

    def accumulate(loader, every=4):
        for i, x in enumerate(loader):
            (model(x).mean() / every).backward()
            if (i + 1) % every == 0:
                optimizer.step()
                optimizer.zero_grad()

    if __name__ == "__main__":
        how = sys.argv[1]
        rows = torch.arange(96.0).reshape(-1, 1)
        if how == "accumulation":
            accumulate(DataLoader(rows, batch_size=4))
        elif how == "generator":
            accumulate(batches(DataLoader(rows, batch_size=4, num_workers=1)), every=1)
        elif how == "stream":
            accumulate(DataLoader(Stream(), batch_size=4, num_workers=2), every=1)
        elif how == "persistent":
            loader = DataLoader(rows, batch_size=12, num_workers=1, persistent_workers=True)
            for _ in range(3):
                accumulate(loader, every=1)
        elif how == "by hand":
            iterator = iter(DataLoader(rows, batch_size=4))
            while (x := next(iterator, None)) is not None:
                accumulate([x], every=1)
"""


@pytest.mark.parametrize(
    ("how", "steps", "epochs", "per_step"),
    [("accumulation", 24, 1, 4.0), ("generator", 24, 1, None), ("stream", 24, 1, None), ("persistent", 24, 3, None),
     ("by hand", 24, 1, None)],
)  # fmt: skip
def test_loops_as_people_write_them(scripts, tmp_path, how, steps, epochs, per_step):
    """Accumulated gradients, a generator, a stream, workers that stay, `next` by hand: a step a batch."""
    assert profile_script([scripts("loops", LOOPS), how], tmp_path / "out") == 0
    summary = load_profile(tmp_path / "out")
    rows = {row.name: row for row in summary.stages}
    assert (summary.series.count, summary.epochs) == (steps, epochs)
    assert rows["dataset"].count == rows["collate"].count == steps
    assert rows["backward"].count == steps
    assert summary.notes.get("batches per optimizer step") == per_step
    assert abs(summary.remainder_ns) <= 0.005 * summary.wall_ns
