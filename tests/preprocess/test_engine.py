"""Where tasks run changes nothing: the same bytes in this process, on one worker, on two, on the user's scheduler."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import datapipe
from datapipe.errors import ConfigError, PreprocessError, StepError
from datapipe.preprocess import clusters, run, silence
from datapipe.preprocess import engine as engines
from datapipe.preprocess.engine import InlineEngine, cores, open_engine
from datapipe.preprocess.limits import Limits
from datapipe.preprocess.tasks import Place, Task, TaskRecord

EVENTS = 6


@pytest.fixture(scope="module")
def scheduler():
    """A Dask cluster of the user's own, of two worker processes."""
    import distributed

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def test_the_dashboard_of_a_scheduler(scheduler, monkeypatch):
    """Its address is known to whoever watches the run; a run in this process has none."""
    monkeypatch.setattr(clusters, "ASKED", 60)  # a busy machine answers late
    engine = open_engine(None, scheduler, splits=2)
    try:
        assert engine.dashboard.startswith("http://")
        assert engine.dashboard.endswith("/status")
    finally:
        engine.close()
    assert open_engine(0, None, splits=2).dashboard is None


def worker_processes():
    """Worker processes below this one."""
    import psutil

    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_bytes_from_any_number_of_workers(undisturbed, corpus, tmp_path, tools, workers):
    """Every published file, byte for byte; and no process is left behind."""
    before = len(worker_processes())
    summary = datapipe.preprocess(corpus, tmp_path, workers=workers, overrides=tools.overrides)
    assert tools.published(tmp_path) == undisturbed[0]
    assert summary.workers == workers
    assert summary.tasks_run == undisturbed[1].tasks_run
    assert len(worker_processes()) == before


def test_a_scheduler_of_ones_own(scheduler, undisturbed, corpus, tmp_path, tools):
    """The same bytes; the scheduler goes on afterwards, for a second run."""
    for output in ("a", "b"):
        datapipe.preprocess(corpus, tmp_path / output, scheduler=scheduler, overrides=tools.overrides)
        assert tools.published(tmp_path / output) == undisturbed[0]


@pytest.mark.parametrize("event", [pytest.param(1, marks=pytest.mark.slow), EVENTS])
def test_a_worker_that_dies_is_replaced(undisturbed, corpus, tmp_path, tools, event):
    """A worker killed while the run lasts: its task is done by another, the bytes are the same."""
    killed = []

    def kill(_):
        kill.count += 1
        if kill.count == event:
            victim = worker_processes()[-1]
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)

    kill.count = 0
    datapipe.preprocess(corpus, tmp_path, workers=2, overrides=tools.overrides, on_progress=kill)
    assert killed
    assert tools.published(tmp_path) == undisturbed[0]


class Strange(Task):
    """A task that is no map task: it raises, ends its process, or says who ran it."""

    def run(self):
        if self.name == "ours":
            raise ConfigError("got", expected="wanted", fix="do")
        if self.name == "other":
            raise ZeroDivisionError("by nought")
        if self.name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.name == "stop":
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.output.url + "/pid", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.kill(os.getpid(), signal.SIGSTOP)
        if self.name == "slow":
            time.sleep(0.1)
        return TaskRecord(key=self.key, stage=self.name, split=self.split, seconds=0.0, size=os.getpid())


def strange(name, tmp_path, key="0" * 32, split=0):
    return Strange(key=key, stage=0, name=name, split=split, output=Place(url=str(tmp_path)))


@pytest.mark.slow
def test_a_task_that_kills_the_workers_of_ones_own_scheduler_ends_the_run(scheduler, tmp_path):
    """A task with no row to blame: the run says what became of it, in a process of its own, and which task it was."""
    engine = open_engine(None, scheduler, splits=4)
    with contextlib.closing(engine), pytest.raises(PreprocessError, match="worker_killed: .* SIGKILL") as caught:
        list(engine.run([strange("kill", tmp_path)]))
    assert "stage 0, kill" in "".join(caught.value.__notes__)


def test_the_neighbours_of_a_task_that_kills(tmp_path):
    """What was done before comes out, each with its own record, and the one that kills ends the run.

    It has no row to blame: the run says what became of it, in a process of its own, and which task it was.
    """
    engine = open_engine(1, None, splits=4)
    tasks = [strange(name, tmp_path, str(i) * 32, i) for i, name in enumerate(["fine", "fine", "kill", "fine"])]
    done = []
    with contextlib.closing(engine), pytest.raises(PreprocessError, match="worker_killed: .* SIGKILL") as caught:  # noqa: PT012  (it raises in the end)
        for task, record in engine.run(tasks):
            assert record.key == task.key
            done.append(task.split)
    assert "stage 0, kill" in "".join(caught.value.__notes__)
    assert 0 in done
    assert 2 not in done


def stopped_workers():
    import psutil

    return [each for each in worker_processes() if each.status() == psutil.STATUS_STOPPED]


def test_a_worker_that_is_stopped_is_replaced(tmp_path, monkeypatch):
    """It cannot end itself: the driver does, and the task is done by another, as after any death."""
    monkeypatch.setattr(engines, "LOOK", 0.2)
    monkeypatch.setattr(silence, "LEAST", 1.0)
    # A machine that stands still silences all workers, and the driver; those that are well are heard after it.
    monkeypatch.setattr(silence, "AT_ONCE", 0.5)
    late = []

    def give_up():
        for each in stopped_workers():
            late.append(each.pid)
            each.kill()

    engine = open_engine(1, None, splits=4, limits=Limits(batch_seconds=3))
    timer = threading.Timer(200, give_up)
    timer.start()
    with contextlib.closing(engine):
        ((task, record),) = engine.run([strange("stop", tmp_path)])
    timer.cancel()
    assert record.key == task.key
    assert not late


def test_workers_that_come_later_are_used(tmp_path, monkeypatch):
    """A worker added during a run gets tasks; the number of workers that a run tells of follows."""
    import distributed

    monkeypatch.setattr(engines, "LOOK", 0.1)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        engine = open_engine(None, cluster.scheduler_address, splits=60)
        assert engine.workers == 1
        pids = set()
        with contextlib.closing(engine):
            for number, (_, record) in enumerate(
                engine.run(strange("slow", tmp_path, f"{n:032}", n) for n in range(60))
            ):
                pids.add(record.size)
                if number == 1:
                    cluster.scale(2)
                    engine._client.wait_for_workers(2, timeout=200)
            assert engine.workers == 2
        assert len(pids) == 2


def test_an_error_in_a_worker_comes_back_whole(scheduler, tmp_path):
    """Ours keep class, message and notes; others become a StepError that says where."""
    engine = open_engine(None, scheduler, splits=4)
    with contextlib.closing(engine):
        with pytest.raises(ConfigError, match="got") as caught:
            list(engine.run([strange("ours", tmp_path)]))
        assert (caught.value.expected, caught.value.fix) == ("wanted", "do")
        assert "stage 0, ours, part 0" in caught.value.__notes__
        with pytest.raises(StepError, match="ZeroDivisionError: by nought") as caught:
            list(engine.run([strange("other", tmp_path)]))
        assert any(note.startswith("raised at test_engine.py") for note in caught.value.__notes__)


def test_what_cannot_be_opened_is_said(tmp_path):
    """Both kinds of workers at once, a negative number, a scheduler that is not there."""
    with pytest.raises(ConfigError, match="workers=2 and scheduler"):
        open_engine(2, "tcp://127.0.0.1:1", splits=1)
    with pytest.raises(ConfigError, match="workers=-1"):
        open_engine(-1, None, splits=1)
    with pytest.raises(ConfigError, match="no answer"):
        open_engine(None, "nonsense://127.0.0.1:1", splits=1)


def test_one_split_needs_no_cluster():
    """Nothing is started where there is nothing to share out."""
    assert isinstance(open_engine(None, None, splits=1), InlineEngine)
    assert isinstance(open_engine(0, None, splits=50), InlineEngine)
    assert isinstance(open_engine(0, None, splits=1, foreign=True), InlineEngine)
    assert cores() >= 1


def test_a_step_of_ones_own_has_a_process_for_one_split(tmp_path):
    """By default a step that ends its process takes its row with it, and not the run, however small the input."""
    (tmp_path / "ends.py").write_text(
        "import os\n\n\ndef ends(table):\n"
        "    if 'END' in table['text'].to_pylist():\n        os._exit(3)\n    return table\n"
    )
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a", "END", "b")))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: own\nsteps: [decode, 'ends.py:ends']\n")
    summary = datapipe.preprocess(tmp_path / "in.jsonl", tmp_path / "out", recipe)
    assert summary.quarantined == {"worker_killed": 1}
    assert summary.documents_out == 2


CLASSIFIER = (
    "import os\n\n\ndef score(texts):\n    if 'END' in texts:\n        os._exit(3)\n    return [0.0] * len(texts)\n"
)


@pytest.fixture
def classified(tmp_path):
    """Three rows, one of which ends the process of a classifier; the recipe, by steps."""
    (tmp_path / "ends.py").write_text(CLASSIFIER)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a", "END", "b")))
    return ["decode", {"safety_score": {"model": str(tmp_path / "ends.py"), "function": "score"}}]


@pytest.mark.slow
def test_a_classifier_of_ones_own_has_a_process_for_one_split(classified, tmp_path):
    """safety_score runs code of the user's: it may end its process too."""
    summary = datapipe.preprocess(tmp_path / "in.jsonl", tmp_path / "out", {"name": "own", "steps": classified})
    assert summary.quarantined == {"worker_killed": 1}
    assert summary.documents_out == 2


def test_a_classifier_of_ones_own_is_asked_to_have_a_process(classified, tmp_path, monkeypatch):
    """safety_score runs code of the user's: it is opened as a step of the user's own is; a step of ours is not."""
    asked = []

    def opened(workers, scheduler, **how):
        asked.append(how["foreign"])
        raise RuntimeError("asked")

    monkeypatch.setattr(run, "open_engine", opened)
    for number, steps in enumerate((classified, ["decode", f"{tmp_path}/ends.py:score"], ["decode"])):
        with pytest.raises(RuntimeError, match="asked"):
            datapipe.preprocess(tmp_path / "in.jsonl", tmp_path / f"out{number}", {"name": "own", "steps": steps})
    assert asked == [True, True, False]


def program(corpus, output, body):
    """A script of the user's that preprocesses on two workers."""
    return f"import sys, datapipe\n{body}\n".replace("RUN", f"datapipe.preprocess({str(corpus)!r}, {str(output)!r}, ")


def test_the_keyboards_interrupt(undisturbed, corpus, tmp_path, tools):
    """Ctrl-C ends driver and workers at once, without a word from the workers; what is done is kept."""
    script = tmp_path / "script.py"
    body = (
        "def told(progress):\n    print('told', flush=True)\n"
        f"if __name__ == '__main__':\n    RUN workers=2, overrides={tools.overrides!r}, on_progress=told)"
    )
    script.write_text(program(corpus, tmp_path / "out", body))
    child = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    child.stdout.readline()
    os.killpg(child.pid, signal.SIGINT)
    _, stderr = child.communicate(timeout=200)
    assert child.returncode == -signal.SIGINT or "KeyboardInterrupt" in stderr
    assert stderr.count("Traceback") <= 1
    assert "Dask Worker process" not in stderr
    summary = datapipe.preprocess(corpus, tmp_path / "out", workers=0, overrides=tools.overrides)
    assert summary.tasks_reused >= 1
    assert tools.published(tmp_path / "out") == undisturbed[0]


def test_a_script_without_a_main_guard(corpus, tmp_path):
    """Workers import the script: without a guard they would start workers in turn; the error says what to write."""
    script = tmp_path / "script.py"
    script.write_text(program(corpus, tmp_path / "out", "RUN workers=2)"))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]
