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
    with pytest.raises(ConfigError, match="fp8"):
        precision.choose_precision("fp8", torch.device("cpu"))


def test_tf32_is_of_cuda_alone():
    """Asked for on a CPU it is refused with what to use, not computed in float32 under another name."""
    with pytest.raises(ConfigError, match="tf32") as fault:
        precision.choose_precision("tf32", torch.device("cpu"))
    assert "fp32" in fault.value.fix


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("bf16", torch.bfloat16), ("fp16", torch.float16), ("tf32", torch.float32), ("fp32", torch.float32)],
)
def test_products_are_in_what_was_asked_for(name, dtype):
    cpu, x = torch.device("cpu"), torch.ones(2, 2)
    with precision.autocast(cpu, name):
        assert (x @ x).dtype == dtype


@pytest.mark.cuda
def test_tf32_is_for_the_run_alone(cuda):
    """On a GPU float32 products may use TF32 inside the run; outside, the process's setting holds."""
    before = torch.get_float32_matmul_precision()
    for asked, said in (("tf32", "high"), ("bf16", "high"), ("fp32", "highest")):
        with precision.float32_products(cuda, asked):
            assert torch.get_float32_matmul_precision() == said
    assert torch.get_float32_matmul_precision() == before
    assert precision.choose_device("auto") == torch.device("cuda", torch.cuda.current_device())
