"""Several processes train what one trains: the loss curve and the weights, whatever the layout."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).with_name("parallel_run.py")
TWO = ['{"data": 2}', '{"shard": 2}', '{"tensor": 2}', '{"pipeline": 2}']
FOUR = [
    '{"data": 4}', '{"data": 2, "shard": 2}', '{"data": 2, "tensor": 2}', '{"shard": 2, "tensor": 2}',
    '{"data": 2, "pipeline": 2}', '{"pipeline": 2, "tensor": 2}', '{"pipeline": 4}', '{"tensor": 2}',
]  # fmt: skip
# Sums over ranks, heads and micro-batches are in another order: float32's rounding (1.2e-7) over 4 steps of AdamW.
LOSS, NORM, WEIGHT = 1e-6, 1e-5, 2e-5


def start(out, world, layouts):
    """The processes' results by rank, and how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out.mkdir()
    alone = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    told = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(out), *layouts],
            env={**alone, **told, "RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=(out / f"{rank}.err").open("wb"),
        )
        for rank in range(world)
    ]  # fmt: skip
    codes = [process.wait(timeout=280) for process in processes]
    said = "\n".join((out / f"{rank}.err").read_text()[-1500:] for rank in range(world))
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(world)], codes, said


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same run in one process."""
    spec = importlib.util.spec_from_file_location("parallel_run", PROGRAM)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    torch.set_num_threads(1)
    return program.run(None, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    results, codes, said = start(tmp_path_factory.mktemp("two") / "out", 2, TWO)
    assert codes == [0, -9], said  # the last scenario kills rank 1
    return results


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    results, codes, said = start(tmp_path_factory.mktemp("four") / "out", 4, FOUR)
    assert codes == [0] * 4, said
    return results


def same(results, name, alone):
    """Every rank saw the numbers of the run in one process; the ranks' weights together are its weights."""
    weights = {}
    for rank, result in enumerate(results):
        got = result[name]
        assert got["losses"] == pytest.approx(alone["losses"], rel=LOSS), rank
        assert got["norms"] == pytest.approx(alone["norms"], rel=NORM), rank
        assert got["best"] == pytest.approx(alone["best"], rel=LOSS), rank
        for exact in ("tokens", "rows", "parameters", "stopped", "step"):
            assert got[exact] == alone[exact], (rank, exact)
        for weight, values in got["weights"].items():
            assert values == pytest.approx(alone["weights"][weight], abs=WEIGHT), (rank, weight)
        weights |= got["weights"]
    assert weights.keys() == alone["weights"].keys()


def test_the_comparison_is_worth_something(alone):
    """Gradients are clipped, weights move by far more than the tolerance, batches hold unequal numbers of targets."""
    assert len(set(alone["tokens"])) > 1
    assert min(alone["norms"]) > 0.3
    assert alone["losses"][0] - alone["losses"][-1] > 1000 * LOSS


@pytest.mark.parametrize("layout", TWO)
def test_two_processes_learn_what_one_does(two, alone, layout):
    """DDP, FSDP2, tensor and pipeline parallel; with accumulation over uneven batches, clipping and an evaluation."""
    same(two, layout, alone)


@pytest.mark.parametrize("name", ["recompute", "gpipe"])
def test_nor_do_recomputation_and_schedule_change_it(two, alone, name):
    """Layers recomputed under FSDP2; GPipe with micro-batches that the rows do not divide by."""
    same(two, name, alone)


def test_a_run_moves_between_layouts(two, alone):
    """A step each on tensor, pipeline, sharded and replicated ranks, by checkpoints, ends where one process ends."""
    for result in two:
        moved = result["moved"]
        assert moved["losses"] == pytest.approx(alone["losses"][3:], rel=LOSS)
        assert moved["best"] == pytest.approx(alone["best"], rel=LOSS)
        for name, values in moved["weights"].items():
            assert values == pytest.approx(alone["weights"][name], abs=WEIGHT), name


def test_a_signal_to_one_rank_stops_all_at_the_same_step(two):
    """Rank 1 is asked after step 2; both end with step 3, the same checkpoint and the reason."""
    assert [(r["asked to stop"]["step"], r["asked to stop"]["stopped"]) for r in two] == [(3, "SIGTERM")] * 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("placed otherwise", "rank=layout.data_rank()"),
        ("other batches", "different batches"),
        ("micro", "a smaller batch_size"),
        ("heads", "GPTConfig(heads=2)"),
        ("stages", "a layer a stage"),
        ("nan", "lower lr"),
        ("too many", "torchrun"),
    ],
)
def test_what_cannot_be_is_refused_on_every_rank(two, name, says):
    """Every rank raises, so none waits for the others; the message says what to do."""
    for result in two:
        assert says in result[name], result[name]


def test_a_rank_that_fails_ends_the_others_with_its_words(two):
    """Rank 1's loader raises: it has its own error, rank 0 one that quotes it, and neither waits for the timeout."""
    assert "its own: row 17 is damaged" in two[1]["raises"]
    assert "another rank ended: rank 1: ValueError: row 17 is damaged" in two[0]["raises"]
    assert "start all ranks again" in two[0]["raises"]


def test_a_rank_that_is_killed_ends_the_others(two):
    """SIGKILL leaves no words; rank 0 says so, and what to do."""
    assert "killed" not in two[1]
    assert "it left no word" in two[0]["killed"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", FOUR[:-1])
def test_four_processes_learn_what_one_does(four, alone, layout):
    """Each combination of layouts that is not refused."""
    same(four, layout, alone)


@pytest.mark.slow
def test_replicas_fill_the_processes(four, alone):
    """Layout(tensor=2) on four processes is two replicas of two."""
    same(four, FOUR[-1], alone)
