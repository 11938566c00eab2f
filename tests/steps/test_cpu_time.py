"""A step's CPU time has that of the processes which work for it."""

from __future__ import annotations

import threading

import pyarrow as pa

from datapipe.steps import Keys, bind, cpu_time, run_steps


def test_what_was_spent_elsewhere_counts_for_the_thread_that_waited():
    """… and for no other; the clock does not go back."""
    before = cpu_time.spent()
    cpu_time.add(5.0)
    assert cpu_time.spent() >= before + 5
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cpu_time.spent()))
    thread.start()
    thread.join()
    assert seen[0] < cpu_time.spent() - 4


def test_parsing_in_the_sandbox_is_the_steps_cost():
    """Pages that cost the parser a second are not free because another process parses them."""
    page = "<table>" + "<tr><td>cell</td></tr>" * 30_000
    table = pa.table({"row_id": ["0", "1"], "media_type": ["text/html"] * 2, "text": [page] * 2})
    (inside,) = run_steps(table, [bind("html_to_text")], Keys()).per_step
    (here,) = run_steps(table, [bind("html_to_text", {"sandbox": False})], Keys()).per_step
    assert inside.cpu_seconds > here.cpu_seconds / 3
