"""Tasks and their keys depend on what was done, not on when."""

from types import SimpleNamespace

from datapipe.preprocess.made import Made
from datapipe.preprocess.stage import Removal


def test_drop_lists_come_in_the_order_of_the_buckets_whatever_finished_first():
    """They enter a task's key: workers that finish in another order must not make finished work be done again."""

    def record(bucket):
        return SimpleNamespace(
            lists={"0": (bucket, 1, f"digest {bucket}")}, files={"drops": SimpleNamespace(path=f"drops-{bucket}")}
        )

    plan = SimpleNamespace(stages=[None, SimpleNamespace(removal=Removal(kind="drop", reason="r", step="s"))])
    stage = SimpleNamespace(drops=(1,))
    found = []
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        made = Made(plan, None)
        made.records[1] = {bucket: record(bucket) for bucket in order}
        found.append(made.drops(stage, 0))
    assert found[0] == found[1]
    assert [digest for _, _, digest in found[0][1]] == [f"digest {n}" for n in range(4)]
