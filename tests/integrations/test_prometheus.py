"""Live metrics, scraped as Prometheus would."""

import sys
import urllib.request

import pytest

from datapipe import profile
from datapipe.errors import ConfigError
from datapipe.profiling.live import LiveFigures

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")


@pytest.fixture
def served():
    from datapipe.integrations.prometheus import Prometheus

    sink = Prometheus(0)
    yield sink
    sink.close()


def scrape(sink):
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=10) as page:
        found = list(parser.text_string_to_metric_families(page.read().decode()))
    return {family.name: family for family in found}


def figures(bottleneck):
    return LiveFigures(
        seconds=2.0, steps=7, window=5, step_seconds=0.25, stall=0.5, bottleneck=bottleneck, resident_bytes=1 << 20
    )


def test_figures_are_served_in_base_units(served):
    assert scrape(served) == {}
    served(figures("decode"))
    found = scrape(served)
    values = {name: family.samples[0].value for name, family in found.items()}
    assert values == {
        "datapipe_steps": 7, "datapipe_step_seconds": 0.25, "datapipe_step_stall_ratio": 0.5,
        "datapipe_step_bound_by": 1, "datapipe_resident_memory_bytes": 1 << 20,
    }  # fmt: skip
    assert found["datapipe_steps"].type == "counter"
    assert found["datapipe_step_bound_by"].samples[0].labels == {"stage": "decode"}


def test_a_stage_of_the_users_own_makes_no_new_series(served):
    """However many names a run has, the label has few values."""
    seen = set()
    for i in range(20):
        served(figures(f"phase {i}\n{{}}"))
        seen |= {sample.labels["stage"] for sample in scrape(served)["datapipe_step_bound_by"].samples}
    assert seen == {"own"}


def test_a_run_is_served_while_it_lasts_and_the_port_is_free_after():
    from datapipe.integrations.prometheus import Prometheus

    sink = Prometheus(0)
    with profile(live=[sink]) as prof:
        for _ in prof.steps(range(30)):
            pass
        prof._watch.tell()
        assert scrape(sink)["datapipe_steps"].samples[0].value == 30
    again = Prometheus(sink.port)
    again.close()


def test_a_port_in_use_and_a_missing_library_are_said(served, monkeypatch):
    from datapipe.integrations.prometheus import Prometheus

    with pytest.raises(ConfigError, match=str(served.port)):
        Prometheus(served.port)
    with pytest.raises(ConfigError, match="70000"):
        Prometheus(70000)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match="not installed"):
        Prometheus(0)


def test_a_rank_of_a_job_says_which_it_is(monkeypatch):
    """Under torchrun every series has its rank, and the port follows the local rank."""
    import socket

    from datapipe.cli.profile import _live
    from datapipe.integrations.prometheus import Prometheus

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    (sink,) = _live(quiet=False, prometheus=free - 1, tensorboard=None)
    try:
        assert isinstance(sink, Prometheus)
        assert sink.port == free
        sink(figures("decode"))
        found = scrape(sink)
        assert {sample.labels["rank"] for family in found.values() for sample in family.samples} == {"5"}
        assert found["datapipe_step_bound_by"].samples[0].labels == {"rank": "5", "stage": "decode"}
    finally:
        sink.close()


def test_the_first_ranks_line_says_whose_it_is(monkeypatch, capsys):
    """A job's log tells rank 0's figures from a single process's."""
    import io

    from datapipe.cli.live_line import PlainLines, live_line

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    line = live_line(io.StringIO())
    assert isinstance(line, PlainLines)
    line._every = 0.0
    line(figures("decode"))
    assert "rank 0 of 4 · step 7" in capsys.readouterr().err
