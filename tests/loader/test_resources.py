"""What the machine grants: affinity, cgroup quota and the node's other ranks; what cannot be read limits nothing."""

from __future__ import annotations

import pytest

from datapipe.loader import resources


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "ranks", "expected"),
    [
        (None, "", 8),
        ("max 100000", "", 8),
        ("250000 100000", "", 2.5),
        ("250000 100000", "2", 1.25),
        (None, "4", 2),
        (None, "100", 1),
        ("nonsense", "x", 8),
        ("5000 0", "0", 8),
    ],
)
def test_cpus_are_what_affinity_quota_and_ranks_leave(cgroup, monkeypatch, quota, ranks, expected):
    if quota is not None:
        (cgroup / "cpu.max").write_text(quota + "\n")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert resources.cpus() == expected


def test_free_memory_is_what_the_cgroup_leaves_page_cache_included(cgroup):
    (cgroup / "memory.max").write_text("1000000\n")
    (cgroup / "memory.current").write_text("700000\n")
    (cgroup / "memory.stat").write_text("anon 300000\ninactive_file 400000\n")
    assert resources.free_memory() == 700_000
    (cgroup / "memory.max").write_text("max\n")
    assert resources.free_memory() != 700_000
