"""What tensor parallelism asks of a model; `test_strategy` trains with it."""

import fnmatch

import pytest
import torch
from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel

from datapipe.errors import ConfigError
from datapipe.train.model import GPT, group_rows
from datapipe.train.tensor_parallel import cut, plan_of


class Mesh:
    """Ranks that are asked for their number alone."""

    def __init__(self, ranks):
        self.ranks = ranks

    def size(self):
        return self.ranks


def test_the_built_in_plan_names_every_large_matrix_of_a_layer(make_model):
    model = make_model()
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    named = {name for pattern in plan_of(model) for name in fnmatch.filter(linear, pattern)}
    assert named == linear


@pytest.mark.parametrize(
    ("shape", "ranks", "fix"),
    [
        ({"heads": 2}, 4, "heads=4"),
        ({"heads": 2, "hidden": 33}, 2, "hidden=34"),
        ({"heads": 4, "hidden": 6}, 4, "hidden=8"),
    ],
)
def test_what_does_not_divide_is_refused_with_numbers_that_do(make_shape, shape, ranks, fix):
    """Nothing was cut yet; with the numbers it names there would be a whole number a rank."""
    with pytest.raises(ConfigError, match=f"tensor={ranks}") as fault:
        cut(GPT(make_shape(**shape)), Mesh(ranks))
    assert fix in fault.value.fix


def test_another_model_says_how_it_is_cut_or_is_refused():
    class Own(nn.Module):
        def __init__(self, plan):
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.plan = plan

        def parallel_plan(self):
            return self.plan

    with pytest.raises(ConfigError, match="does not say how it is cut") as fault:
        plan_of(nn.Linear(2, 2))
    assert "shard" in fault.value.fix
    plan = {"inn*": ColwiseParallel()}
    assert plan_of(Own(plan)) is plan
    with pytest.raises(ConfigError, match="outer") as fault:
        plan_of(Own({"outer": ColwiseParallel()}))
    assert "inner" in fault.value.expected


@pytest.mark.parametrize(("parts", "groups"), [(3, 2), (2, 4), (3, 1), (1, 5)])
def test_grouped_rows_are_the_same_rows(parts, groups):
    """Row by row: those of group g of every part lie together, in order; the inverse swaps the numbers."""
    rows = parts * groups * 3
    weight = torch.arange(float(rows * 2)).view(rows, 2)
    grouped = group_rows(weight, parts, groups)
    for group in range(groups):
        for part in range(parts):
            start = (group * parts + part) * 3
            origin = (part * groups + group) * 3
            assert torch.equal(grouped[start : start + 3], weight[origin : origin + 3])
    assert torch.equal(group_rows(grouped, groups, parts), weight)
