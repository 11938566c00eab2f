"""What a run will cost is known from a sample, and the laws of it are those of the stages."""

import dataclasses
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.preprocess import forecast_run, plan_run
from datapipe.preprocess.cost_model import Cluster, run_cost
from datapipe.preprocess.sampled_run import StageSample, run_samples
from datapipe.preprocess.tasks import record_from

STEPS = [
    "decode",
    "exact_duplicates",
    "near_duplicates",
    {"vocabulary": {"size": 300}},
    "shuffle",
    "tokenize",
    {"pack": {"seq_len": 64}},
]


@pytest.fixture(scope="module")
def planned(tmp_path_factory, tools):
    """A corpus of many splits and every kind of pass, its plan, and its samples."""
    folder = tmp_path_factory.mktemp("cost")
    (folder / "in").mkdir()
    draw = random.Random(3)
    texts = [tools.document(draw) for _ in range(300)]
    for number in range(3):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in [*texts[number::3], texts[number]])
        (folder / "in" / f"{number}.jsonl").write_text(lines)
    recipe = {"steps": STEPS, "output": {"split_bytes": 24_000}}
    plan = plan_run(folder / "in", folder / "out", recipe)
    samples = run_samples(plan, sample_bytes=32_000)
    assert not (folder / "out").exists()
    return folder, plan, samples, recipe


def test_against_the_run_itself(planned):
    """Tasks are exact; documents and bytes written within a third of what the run writes."""
    import datapipe

    folder, plan, samples, recipe = planned
    cost = run_cost(plan, samples, Cluster(workers=1, latency=0.0))
    summary = datapipe.preprocess(folder / "in", folder / "out", recipe, workers=0)
    # A task of equal rows is done once, one without rows is none.
    assert 0.9 * cost.tasks <= summary.tasks_run <= cost.tasks
    assert 0.67 < cost.documents / summary.documents_in < 1.5
    records = [record_from(json.loads(path.read_text())["record"]) for path in (folder / "out/_work/records").iterdir()]
    files = {file.path: file.bytes for record in records for file in record.files.values()}
    kept = sum(path.stat().st_size for path in (folder / "out/_work/records").iterdir())
    assert 0.67 < sum(stage.written for stage in cost.stages) / (sum(files.values()) + kept) < 1.5


def test_more_of_everything(planned):
    """More documents cost no less of anything, more workers take no longer; the text and the object say the same."""
    _, plan, samples, _ = planned
    before = None
    for documents in (400, 10**5, 10**7, 10**9):
        costs = [run_cost(plan, samples, Cluster(workers=workers), documents) for workers in (1, 100, 10**4)]
        assert sorted(costs, key=lambda cost: -cost.seconds) == costs
        plain = costs[-1].as_dict()
        assert json.loads(json.dumps(plain))["hours"] == plain["hours"]
        assert f"{documents:,} documents" in str(costs[-1])
        names = ("read", "written", "gets", "puts", "tasks", "cpu_seconds", "driver_memory", "scheduler_memory")
        for name in names if before is not None else ():
            assert plain[name] >= before[name], name
        before = plain
    # What moves rows asks each split for a range of each part: that grows by the square.
    moved = next(n for n, stage in enumerate(plan.stages) if stage.kind == "merge")
    assert costs[-1].stages[moved].gets > 1e9


def sample(tasks, splits, size, seconds, gets=0):
    return StageSample(
        tasks=tasks, splits=splits, input_bytes=size, seconds=seconds, gets=gets, puts=tasks, read=0, written=size,
        task_bytes=100 * tasks, record_bytes=100 * tasks, memory=1 << 20,
    )  # fmt: skip


def test_the_laws_are_found(planned):
    """A task's own part and a byte's are told apart, in figures that follow them exactly."""
    _, plan, samples, _ = planned
    law = lambda tasks, size: 0.5 * tasks + 1e-6 * size  # noqa: E731
    runs = tuple(sample(t, s, n, law(t, n)) for t, s, n in ((1, 1, 10**6), (1, 1, 4 * 10**6), (4, 4, 4 * 10**6)))
    known = dataclasses.replace(samples, stages=(runs, *samples.stages[1:]), documents=1e-3)
    cost = run_cost(plan, known, Cluster(workers=1, latency=0.0), documents=10**6)
    assert cost.stages[0].cpu_seconds == pytest.approx(law(cost.splits, 10**9), rel=1e-6)
    assert cost.stages[0].seconds == pytest.approx(cost.stages[0].cpu_seconds, rel=0.01)
    waits = run_cost(plan, known, Cluster(workers=1, latency=1.0), documents=10**6)
    assert waits.stages[0].seconds >= cost.stages[0].seconds + cost.splits


def test_a_corpus_of_one_row(tmp_path):
    """There is nothing to fit, and no division by it; the input and the output are left alone."""
    (tmp_path / "a.txt").write_text("one text of a few words")
    plan = plan_run(tmp_path / "a.txt", tmp_path / "out", {"steps": ["decode"]})
    cost = forecast_run(plan, str(tmp_path / "out"), 3)
    assert (cost.documents, cost.tasks, cost.workers) == (1, 1, 3)
    assert "cost of 1 document, 23 B, on 3 workers of one core" in str(cost)
    assert "in 1 task\n" in str(cost)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]


def test_where_the_sample_is_all_of_the_input_it_is_counted(tmp_path):
    """Files, and rows, are as many as there are, however they are cut; a larger corpus is in their proportion."""
    folder = tmp_path / "in"
    folder.mkdir()
    draw = random.Random(5)
    for number in range(41):
        (folder / f"{number:03}.txt").write_text("x" * draw.randrange(10, 4000))
    pq.write_table(pa.table({"text": ["y" * n for n in range(100)]}), folder / "r.parquet", row_group_size=9)
    plan = plan_run(folder, tmp_path / "out", {"steps": ["decode"]})
    samples = run_samples(plan)
    cost = run_cost(plan, samples, Cluster(workers=1))
    assert (cost.documents, cost.known, cost.sample_bytes) == (141, "counted", plan.bytes)
    assert "cost of 141 documents, " in str(cost)
    assert "the input is like" not in str(cost)
    many = run_cost(plan, samples, Cluster(workers=1), documents=141_000)
    assert many.input_bytes == pytest.approx(1000 * plan.bytes, rel=1e-6)
    assert "cost of 141,000 documents, about " in str(many)
    part = run_cost(plan, dataclasses.replace(samples, whole=None), Cluster(workers=1))
    assert part.known == "estimated"
    assert f"cost of about {part.documents:,} documents, " in str(part)
    assert "the input is like the " in str(part)
    assert " 0.0 MB" not in str(part)
