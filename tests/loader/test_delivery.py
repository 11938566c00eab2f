"""How columns are delivered: wide or narrow, packed or not, and what does not go together."""

from __future__ import annotations

import pyarrow as pa
import pytest

from datapipe.errors import ConfigError
from datapipe.loader import DataLoader, Pack
from datapipe.loader.columns import ColumnOptions
from datapipe.loader.delivery import plan_delivery

SCHEMA = pa.schema([("tokens", pa.list_(pa.uint16())), ("score", pa.float32())])
PLAIN = {"narrow": False, "tables": False, "collated": True, "packed": False, "padded": False, "shuffled": False}


def test_on_the_host_nothing_is_widened_later():
    columns, widen = plan_delivery(SCHEMA, ColumnOptions(), **PLAIN)
    assert [str(column.out) for column in columns] == ["int64", "float32"]
    assert widen == {}


def test_on_a_device_integers_stay_narrow_until_they_are_there():
    torch = pytest.importorskip("torch")
    columns, widen = plan_delivery(SCHEMA, ColumnOptions(), **{**PLAIN, "narrow": True, "packed": True})
    assert [str(column.out) for column in columns] == ["uint16", "float32"]
    assert widen == dict.fromkeys(("tokens", "position_ids", "segment_ids"), torch.int64)


@pytest.mark.parametrize(
    ("options", "dtypes", "message"),
    [
        ({"tables": True, "collated": False}, {"score": "float64"}, "dtypes"),
        ({"tables": True, "packed": True}, {}, "pack with Arrow tables"),
    ],
)
def test_what_does_not_go_together_is_refused(options, dtypes, message):
    with pytest.raises(ConfigError, match=message):
        plan_delivery(SCHEMA, ColumnOptions(dtypes=dtypes), **{**PLAIN, **options})


def test_tables_have_no_column_plan():
    assert plan_delivery(SCHEMA, ColumnOptions(), **{**PLAIN, "tables": True}) == (None, {})


def test_packed_rows_cross_to_a_device_narrow_and_are_wide_there(of_tables, monkeypatch):
    """Tokens as stored, ids as int32; there all are int64. cu_seqlens stays int32 and max_seqlen a number."""
    torch = pytest.importorskip("torch")
    from datapipe.device import transfer
    from datapipe.device.engine import CopyEngine
    from datapipe.device.pool import plain_memory

    crossed = []

    class Bus(CopyEngine):
        def allocate(self, nbytes):
            return plain_memory(nbytes)

        def is_ready(self, tensor):
            return True

        def send(self, tensor, dtype):
            crossed.append(tensor.dtype)
            return tensor.to(dtype or tensor.dtype, copy=True)

        def mark(self):
            return None

        def passed(self, mark):
            return True

        def join(self, mark, tensors):
            pass

        def finish(self):
            pass

    monkeypatch.setattr(transfer, "check_device", lambda device: type("D", (), {"type": "cuda"}))
    monkeypatch.setattr(transfer, "make_engine", lambda target, pin: Bus())
    tokens = pa.array([[1, 2, 3], [4, 5]], pa.list_(pa.uint16()))
    loader = DataLoader(of_tables(pa.table({"tokens": tokens})), 1, device="cuda", pack=Pack(6, cu_seqlens=True))
    (batch,) = list(loader)
    assert {name: batch[name].dtype for name in ("tokens", "segment_ids", "position_ids", "cu_seqlens")} == {
        "tokens": torch.int64, "segment_ids": torch.int64, "position_ids": torch.int64, "cu_seqlens": torch.int32,
    }  # fmt: skip
    assert set(crossed) == {torch.uint16, torch.int32}
    assert batch["tokens"].sum() == 15
    assert batch["max_seqlen"] == 3
