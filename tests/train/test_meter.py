"""MFU: the formula, the table, and nothing where something is not known."""

import pytest
import torch

from datapipe.train.meter import Meter, peak_flops

CPU = torch.device("cpu")


def test_mfu_is_the_models_operations_over_the_peak(make_model, make_shape):
    """6 a parameter and 12 x layers x width x row length a target."""
    model, shape = make_model(), make_shape()
    each = 6 * model.parameter_count() + 12 * shape.layers * shape.width * shape.seq_len
    assert model.flops_per_target() == each
    assert Meter(model, CPU, "fp32", 1e9).mfu(1000.0) == pytest.approx(each * 1000 / 1e9)


def test_what_is_not_known_is_not_guessed(make_model):
    """A CPU has no peak in the table, and a module that says nothing no operations."""
    assert Meter(make_model(), CPU, "fp32", None).mfu(1.0) is None
    assert Meter(torch.nn.Linear(2, 2), CPU, "fp32", 1e9).mfu(1.0) is None
    assert Meter(torch.nn.Linear(2, 2), CPU, "fp32", None).memory() > 1 << 20


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [("NVIDIA H200", "bf16", 989e12), ("NVIDIA H100 80GB HBM3", "tf32", 494.5e12),
     ("NVIDIA H100 80GB HBM3", "fp32", None), ("NVIDIA H100 PCIe", "bf16", 756e12),
     ("NVIDIA H100 NVL", "fp16", 835e12), ("NVIDIA A100-SXM4-80GB", "bf16", 312e12), ("NVIDIA L40S", "bf16", 362e12),
     ("NVIDIA L4", "bf16", 121e12), ("Tesla T4", "fp16", 65e12), ("Tesla T4", "tf32", None),
     ("NVIDIA GeForce RTX 4090", "bf16", 165.2e12), ("AMD Instinct MI300X", "bf16", 1307.4e12),
     ("NVIDIA RTX A1000", "bf16", None)],
)  # fmt: skip
def test_a_device_is_known_by_the_words_of_its_name(name, precision, peak):
    """float32 products run as TF32, at half the rate, where there is such a thing."""
    assert peak_flops(name, precision) == peak
