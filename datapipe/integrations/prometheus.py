"""A run's live figures for Prometheus: a page of metrics over HTTP, at the newest figures whenever it is asked for.

What enters: `LiveFigures`. What leaves: gauges and one counter in base units (seconds, bytes, ratios).
Invariant: low cardinality: `stage` is a stage that everybody names alike, or "own"; `rank` is there where the process
is one of a job's; scraping reads figures that are there already and costs the run nothing.

Names follow Prometheus' "Metric and label naming". Needs `prometheus-client`, which is imported when this is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.errors import ConfigError
from datapipe.events import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.profiling.live import LiveFigures


@final
class Prometheus:
    """Give it to `datapipe.profile(..., live=[Prometheus(9464)])`.

    Args:
        port: where to listen; 0: any free one, which `port` then tells.
        address: the interface; this machine alone by default, as the page has no password.
        rank: which process of a job this is, a label of every metric; None: it is alone.

    Raises:
        ConfigError: prometheus-client is not installed, or the port cannot be had.

    Example:
        >>> import datapipe
        >>> from datapipe.integrations.prometheus import Prometheus
        >>> with datapipe.profile(live=[Prometheus(0)]) as prof:
        ...     steps = sum(1 for batch in prof.steps([1, 2, 3]))
    """

    def __init__(self, port: int = 9464, address: str = "127.0.0.1", *, rank: int | None = None) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError as error:
            raise ConfigError(
                "prometheus-client is not installed", fix="pip install 'datapipe-toolkit[live]', or leave it out"
            ) from error
        self._newest: LiveFigures | None = None
        self._labels = {} if rank is None else {"rank": str(rank)}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, address, self._registry)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot serve metrics on {address}:{port}: {error}",
                expected="a free port, 0 to 65535",
                fix="another port, or 0 for any free one",
            ) from error
        self.port: int = self._server.server_port

    def __call__(self, figures: LiveFigures) -> None:
        """Take the newest figures."""
        self._newest = figures

    def collect(self) -> Iterator[Any]:
        """The metrics, for the registry."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        figures = self._newest
        if figures is None:
            return
        names, values = list(self._labels), list(self._labels.values())

        def gauge(name: str, told: str, value: float) -> Any:
            family = GaugeMetricFamily(name, told, labels=names)
            family.add_metric(values, value)
            return family

        steps = CounterMetricFamily("datapipe_steps", "Steps ended.", labels=names)
        steps.add_metric(values, figures.steps)
        yield steps
        yield gauge("datapipe_step_seconds", "Mean length of the newest steps.", figures.step_seconds)
        yield gauge(
            "datapipe_step_stall_ratio", "Share of the newest steps that waits for data or copies it.", figures.stall
        )
        bound = GaugeMetricFamily(
            "datapipe_step_bound_by", "1 for what bounds the newest steps.", labels=[*names, "stage"]
        )
        if figures.bottleneck is not None:
            named = figures.bottleneck if figures.bottleneck in (*STAGES, "loader", "other") else "own"
            bound.add_metric([*values, named], 1)
        yield bound
        if figures.resident_bytes is not None:
            yield gauge("datapipe_resident_memory_bytes", "Resident size of the process.", figures.resident_bytes)

    def describe(self) -> Iterator[Any]:
        """Nothing: the registry need not ask for metrics to know their names."""
        return iter(())

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
