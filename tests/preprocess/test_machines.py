"""Machines that share nothing but a network and an object store give the bytes that one process gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ISOLATED = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]


def can_isolate():
    """Whether this user may make networks of his own."""
    try:
        tried = subprocess.run(
            [*ISOLATED, "ip", "link", "add", "bridge0", "type", "bridge"], capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def program(folder, scenario):
    pytest.importorskip("s3fs", reason="the s3 extra is not installed")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    if not can_isolate():
        pytest.skip("no network namespaces for this user (unshare, ip)")
    here = Path(__file__).with_name("machines.py")
    done = subprocess.run(
        [*ISOLATED, sys.executable, str(here), str(folder), scenario], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_machines_that_are_lost_and_added(tmp_path):
    """A cable cut in the first stage, a worker killed in a near-duplicate pass, a machine in the shuffle; one added."""
    found = program(tmp_path, "lost")
    assert [what for what, _ in found["disturbed"]] == [
        "a cable is cut",
        "a worker process is killed",
        "a machine is killed",
    ]
    assert found["same"]
    assert found["files"] > 20
    assert found["secrets"] == []


@pytest.mark.slow
def test_a_driver_that_is_lost(tmp_path):
    """Killed in the middle, run again on the same cluster: what is done is not done again, the bytes are the same."""
    found = program(tmp_path, "client")
    assert found["first"] == -9
    assert found["tasks_reused"] >= 8
    assert found["same"]
