"""Where a run computes and in which numbers."""

import pytest
import torch

from datapipe.errors import ConfigError
from datapipe.train import precision


def test_auto_is_the_gpu_where_there_is_one():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert precision.choose_device("auto").type == expected
    assert precision.choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match="device="):
        precision.choose_device(name)


@pytest.mark.parametrize("native", [True, False])
def test_auto_on_a_cpu_follows_its_bf16_instructions(monkeypatch, native):
    """bf16 where torch says that the CPU multiplies it, float32 elsewhere; asked for by name it is given."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    cpu = torch.device("cpu")
    assert precision.choose_precision("auto", cpu) == ("bf16" if native else "fp32")
    assert precision.choose_precision("bf16", cpu) == "bf16"
    assert precision.choose_precision("fp32", cpu) == "fp32"


def test_an_older_torch_that_does_not_say_gets_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision.choose_precision("auto", torch.device("cpu")) == "fp32"


def test_another_precision_is_refused():
    with pytest.raises(ConfigError, match="fp16"):
        precision.choose_precision("fp16", torch.device("cpu"))


def test_autocast_is_on_for_bf16_alone():
    cpu, x = torch.device("cpu"), torch.ones(2, 2)
    with precision.autocast(cpu, "bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with precision.autocast(cpu, "fp32"):
        assert (x @ x).dtype == torch.float32


@pytest.mark.cuda
def test_tf32_is_for_the_run_alone(cuda):
    """On a GPU float32 products may use TF32 inside the run; outside, the process's setting holds."""
    before = torch.get_float32_matmul_precision()
    with precision.float32_products(cuda):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
    assert precision.choose_device("auto") == torch.device("cuda", torch.cuda.current_device())
