"""Watching the machine: readings, children, and systems that tell nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from datapipe.profiling import machine_watch, process_counters
from datapipe.profiling.cpu_use import cpu_use
from datapipe.profiling.machine_watch import MachineWatch
from datapipe.profiling.process_counters import (
    Counters,
    child_processes,
    memory_limit,
    read_child,
    read_counters,
    run_delays,
)

linux = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="no /proc/self/io")
MB = 1 << 20


@linux
def test_what_the_kernel_counts_grows_as_it_should(tmp_path):
    """Allocating shows in anonymous bytes, reading a file in read calls, computing in CPU time."""
    file = tmp_path / "some"
    file.write_bytes(bytes(4 * MB))
    before = read_counters()
    held = bytearray(b"x") * (64 * MB)
    assert len(file.read_bytes()) == 4 * MB
    after = read_counters()
    assert after.anonymous - before.anonymous >= 0.9 * len(held)
    assert after.read_calls - before.read_calls >= 4 * MB
    assert after.at > before.at
    assert after.cpu >= before.cpu


def test_a_system_without_proc_gives_nothing_and_no_error(monkeypatch):
    """Where `/proc` is not there every field is None, and a watch runs all the same."""
    monkeypatch.setattr(process_counters, "_read", lambda _: "")
    monkeypatch.setattr(process_counters.os, "listdir", lambda _: (_ for _ in ()).throw(OSError))
    found = read_counters()
    assert (found.resident, found.read_disk, found.cpu, found.stalled) == (None, None, None, (None, None, None))
    assert memory_limit() is None
    watch = MachineWatch(probe=False)
    watch.start()
    watch.stop()
    assert len(watch.watched().counters) == 2


def test_limits_of_groups_above_count_too(monkeypatch):
    """The tightest limit of a group and its parents is the limit; the machine's memory where there is none."""
    files = {
        "/proc/self/cgroup": "0::/job/step\n",
        "/sys/fs/cgroup/job/step/memory.max": "max\n",
        "/sys/fs/cgroup/job/memory.max": "1073741824\n",
        "/proc/meminfo": "MemTotal:       16777216 kB\n",
    }
    monkeypatch.setattr(process_counters, "_read", lambda path: files.get(path, ""))
    assert memory_limit() == (1 << 30, "the control group")
    files["/sys/fs/cgroup/job/memory.max"] = "max\n"
    assert memory_limit() == (16 << 30, "the machine")


def test_a_command_with_brackets_and_spaces_is_read_right():
    """The name in `/proc/self/stat` may hold anything."""
    fields = " ".join(str(n) for n in range(4, 53))
    minor, major, cpu = process_counters._of_stat(f"12 (a) b ) c) S {fields}")
    assert (minor, major) == (10, 12)
    assert cpu == (14 + 15) * process_counters._TICK_NS


@linux
def test_a_child_is_seen_and_kept_when_it_is_gone():
    """What a worker read counts although it has ended by the time of the last look."""
    code = "import sys; open('/dev/zero', 'rb').read(8 << 20); print('x', flush=True); sys.stdin.readline()"
    watch = MachineWatch(interval=0.01, probe=False)
    watch.start()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert child.pid in child_processes()
        assert read_child(child.pid).read_calls >= 8 * MB
        seen = threading.Event()
        while watch.watched().counters[-1].read_calls - watch.watched().counters[0].read_calls < 8 * MB:
            seen.wait(0.005)
        child.stdin.close()
    watch.stop()
    counters = watch.watched().counters
    assert counters[-1].read_calls - counters[0].read_calls >= 8 * MB


def test_a_long_watch_keeps_few_readings():
    """However long it runs, at most 2,000 readings are kept, the first and the last among them."""
    at = iter(range(10_000))
    watch = MachineWatch(look=lambda children: Counters(at=next(at)), probe=False)
    for _ in range(5_001):
        watch._take()
    kept = [one.at for one in watch.watched().counters]
    assert len(kept) <= 2_000
    assert (kept[0], kept[-1]) == (0, 5_000)
    assert kept == sorted(kept)


def test_cores_in_use_are_cpu_over_wall():
    """3 s of CPU in 2 s on 2 cores is 1.5 cores, and not yet full; 1.9 of 2 is."""
    found = cpu_use([Counters(at=0, cpu=0, preempted=0), Counters(at=2 * 10**9, cpu=3 * 10**9, preempted=8)], usable=2)
    assert (found.used, found.preempted, found.warning) == (1.5, 4.0, None)
    full = cpu_use([Counters(at=0, cpu=0), Counters(at=10**9, cpu=1_900_000_000)], usable=2)
    assert "CPUs are full" in full.warning


@pytest.mark.parametrize(
    ("queued", "machine", "told"),
    [(40, 190, True), (4, 190, False), (40, 60, False), (None, 190, False), (40, None, False)],
)
def test_it_is_told_that_other_processes_had_the_cores(queued, machine, told):
    """Half a core used of 2, no core for 40% of the time: others' doing where they used 1.4, its own where none did."""
    first = Counters(at=0, cpu=0, queued=None if queued is None else 0, machine=None if machine is None else 0)
    tick = 10**9 // 100
    last = Counters(
        at=10**9, cpu=50 * tick, queued=None if queued is None else queued * tick,
        machine=None if machine is None else machine * tick,
    )  # fmt: skip
    said = cpu_use([first, last], usable=2).warning
    assert (said is not None) is told
    if said is not None:
        assert "1.4 cores" in said
        assert "40% of the time" in said
        assert "predictions" in said


def test_what_waits_for_a_core_is_as_long_as_its_worst_thread_waited(monkeypatch):
    """Two threads that wait at once are no longer than one; a new one counts from its birth, no look beyond itself."""
    at, delays = [0], [{1: 50, 2: 50}]
    monkeypatch.setattr(machine_watch, "run_delays", lambda *_: delays[0])
    watch = MachineWatch(look=lambda **_: Counters(at=at[0]), probe=False, interval=60)
    watch.start()
    for now, told in ((100, {1: 80, 2: 90}), (200, {1: 90, 2: 90, 3: 60}), (300, {1: 90, 2: 5_000, 3: 60}), (400, {})):
        at[0], delays[0] = now, told
        watch._take()
    watch.stop()
    assert [one.queued for one in watch.watched().counters][:4] == [0, 40, 100, 200]
    assert watch.watched().counters[4].queued is None


@linux
def test_the_kernel_tells_who_waited_for_a_core():
    """Every thread of this process has a figure, but those left out; the machine used CPU time since it was started."""
    mine = threading.get_native_id()
    assert run_delays(())[mine] >= 0
    assert mine not in run_delays((), {mine})
    assert read_counters().machine > 0
