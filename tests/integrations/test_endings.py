"""However a script ends, in a process of its own: its exit code, its own words, and a profile of what ran."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datapipe.profiling import load_profile

torch = pytest.importorskip("torch")

ENDS = """
    import os, signal, sys, time
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    def train(how):
        model = nn.Linear(2, 1)
        data = TensorDataset(torch.zeros(400, 2))
        for i, (x,) in enumerate(DataLoader(data, batch_size=2, num_workers=2)):
            model(x).sum().backward()
            if i == 20:
                if how == "own handler":
                    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
                print("at 20", flush=True)
                if how == "crash":
                    raise RuntimeError("crashed")
                if how == "leave":
                    os._exit(5)
                if how == "exit":
                    sys.exit(7)
                if how == "child":
                    child = os.fork()
                    if child == 0:
                        time.sleep(60)
                        os._exit(3)  # it was not killed
                    os.kill(child, signal.SIGTERM)
                    print("child", os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
                    return
                time.sleep(60)

    if __name__ == "__main__":
        try:
            train(sys.argv[1])
        finally:
            print("cleaned up", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "sent", "code", "error"),
    [("crash", None, 1, "RuntimeError"), ("exit", None, 7, "SystemExit"), ("leave", None, 5, "SystemExit"),
     ("wait", signal.SIGINT, 130, "KeyboardInterrupt"), ("wait", signal.SIGTERM, 143, "Terminated"),
     ("own handler", signal.SIGTERM, 9, "SystemExit"), ("child", None, 0, None)],
)  # fmt: skip
def test_the_profile_of_what_ran_is_written(scripts, tmp_path, how, sent, code, error):
    """A crash, an exit, Ctrl-C and SIGTERM, with workers running: the code is the script's, its `finally` ran."""
    command = [Path(sys.executable).with_name("datapipe"), "profile", "-o", "out", scripts("ends", ENDS), how]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = [process.stdout.readline().strip()]
    if sent is not None:
        process.send_signal(sent)
    rest, errors = process.communicate(timeout=120)
    said += rest.splitlines()
    assert said[0] == "at 20"
    assert ("cleaned up" in said) is (how != "leave")
    assert ("the profile of what ran is in out" in errors) is (how == "leave")
    assert not (tmp_path / "out" / "unfinished.txt").exists()
    assert process.returncode == code, errors[-2000:]
    assert ("RuntimeError: crashed" in errors) is (how == "crash")
    if how == "child":
        assert f"child {signal.SIGTERM.value}" in said
    summary = load_profile(tmp_path / "out")
    assert (summary.complete, summary.error) == (error is None, error)
    assert summary.cause == (f"SystemExit, code {code}" if error == "SystemExit" else error or "")
    assert summary.series.count == (20 if how == "leave" else 21)  # the step that is left is none
    assert {"dataset", "collate"} <= {row.name for row in summary.stages}


def test_sigterm_before_the_first_step_leaves_a_profile_too(scripts, tmp_path):
    """While it imports or reads its data: a profile without steps."""
    code = """
        import os, signal
        os.kill(os.getpid(), signal.SIGTERM)
        print("went on")
    """
    command = [Path(sys.executable).with_name("datapipe"), "profile", "-o", "out", scripts("early", code)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 143
    assert "went on" not in done.stdout
    assert load_profile(tmp_path / "out").verdict.kind == "no steps"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_can_be_ended_from_its_first_moment(scripts, tmp_path):
    """SIGTERM sent as soon as fork returned ends the child, each of 40 times, as it would without a profile."""
    code = """
        import os, signal, time

        ends = []
        for _ in range(40):
            child = os.fork()
            if child == 0:
                time.sleep(1)
                os._exit(3)
            os.kill(child, signal.SIGTERM)
            ends.append(os.waitpid(child, 0)[1])
        print(set(ends))
    """
    command = [Path(sys.executable).with_name("datapipe"), "profile", "-o", "out", scripts("forks", code)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert str({signal.SIGTERM.value}) in done.stdout, done.stdout + done.stderr
