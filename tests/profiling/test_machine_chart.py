"""Bytes as a bar."""

from __future__ import annotations

from datapipe.profiling.io_truth import Traffic
from datapipe.profiling.machine_chart import byte_parts


def test_bytes_that_cancel_make_no_shares():
    """Counters that went backwards (a profile from elsewhere) draw a bar, and do not end the report."""
    traffic = Traffic(network=5, cache=0, local=0, disk=-5, page_cache=0, device_reads=None, state="cold")
    assert len(byte_parts(traffic)) == 2
