"""Checkpoints of any number of ranks are read by any other; four real processes over gloo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("resharded_run.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """All that the ranks did, once."""
    out = tmp_path_factory.mktemp("ranks")
    done = subprocess.run([sys.executable, str(SCRIPT), str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_each_rank_writes_its_part_of_what_was_there_when_it_was_asked(found):
    """FSDP2 over four ranks, 61 rows among them; the optimizer steps while the write goes on."""
    parts = [f"{part}-{n:05d}-of-00004.safetensors" for part in ("model", "optimizer") for n in range(1, 5)]
    assert found["files"] == [*parts, "state.json"]
    assert found["saved is as it was"]
    assert found["it changed meanwhile"]
    assert found["four against one"] < 1e-6


@pytest.mark.parametrize("way", ["4 to 1", "4 to 2", "1 to 4", "ddp to 1"])
def test_another_number_of_ranks_reads_the_same_bits(found, way):
    """Weights and moments, sharded as they are there; on every rank."""
    assert found[way]
    assert found["everywhere"]


@pytest.mark.parametrize("way", ["4 to 1", "4 to 2"])
def test_the_next_step_is_that_of_the_ranks_that_saved(found, way):
    """But for the order in which gradients are summed."""
    assert found[f"{way}, a step on"] < 1e-6


def test_what_is_replicated_is_written_once_by_all_together(found):
    """DDP: two files a rank, none of which holds all, under the plain model's names."""
    assert found["ddp files"] == 2 * 4 + 1


def test_a_full_disk_on_one_rank_is_told_to_all(found):
    """A NoSpaceError with its remedy; the checkpoint before is all that is there."""
    assert "step-00000002: no space left" in found["full disk"]
    assert "keep=1" in found["full disk"]
    assert found["after the full disk"] == ["step-00000001"]


def test_a_run_of_several_ranks_goes_on_from_one_place(found):
    """Each rank with its own random numbers; the first one's findings and refusals are everybody's."""
    assert found["each rank draws on"] == [True] * 4
    assert found["their draws differ"]
    assert found["all stand at"] == [[5, {"position": 7}]] * 4
    assert found["must"].startswith("no checkpoint in")
    assert found["fresh"] is None
    assert found["first"] == 0
