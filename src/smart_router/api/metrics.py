"""/metrics in Prometheus' text format: every part's statistics under the names of telemetry.METRICS.

A number of a part is a metric if it is named there. Labels come from our own tables only (state, reason), and their
number is bounded all the same: no peer can make series (faults and limits, A10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from litestar import HttpMethod, Request, Response, route
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from smart_router.api.caller import Callers
from smart_router.telemetry import METRICS

__all__ = ["MAX_SERIES", "families", "metrics_routes"]

MAX_SERIES: Final = 100
"""Of one metric with labels; further ones are added up under `other`."""

Parts = Callable[[], list[tuple[str, Any]]]
Series = dict[tuple[str, ...], float]


def families(parts: Iterable[tuple[str, Any]], reasons: list[str]) -> Iterator[Metric]:
    """`parts`: (name, statistics), a name twice is added up. `reasons`: why the node is not ready."""
    found: dict[str, Series] = {"smart_router_ready": {(): float(not reasons)}}
    for part, statistics in parts:
        for field, value in statistics._asdict().items():
            name = f"smart_router_{part}_{field}"
            name = name if name in METRICS else name + "_total"
            if name in METRICS:
                _add(found.setdefault(name, {}), value, len(METRICS[name].labels))
    for name, series in found.items():
        yield _family(name, series)


def _add(series: Series, value: Any, labels: int) -> None:
    values = value if isinstance(value, Mapping) else {(): value}
    for wanted, number in values.items():
        key = wanted if wanted in series or len(series) < MAX_SERIES else ("other",) * labels
        series[key] = series.get(key, 0.0) + float(number)


def _family(name: str, series: Series) -> Metric:
    metric = METRICS[name]
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(name, metric.text, labels=metric.labels)
    for key, number in series.items():
        family.add_metric(key, number)
    return family


class _Node(Collector):
    def __init__(self, parts: Parts, ready: Callable[[], list[str]]) -> None:
        self._parts = parts
        self._ready = ready

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would otherwise collect once to find the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        return families(self._parts(), self._ready())


def metrics_routes(callers: Callers, parts: Parts, ready: Callable[[], list[str]]) -> list[HTTPRouteHandler]:
    registry = CollectorRegistry()
    registry.register(_Node(parts, ready))
    ProcessCollector(registry=registry)

    @route(
        "/metrics",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        status_code=200,
        security=[{"token": []}],
        media_type="text/plain",
    )
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Every part's counters and gauges, in Prometheus' text format.

        Where authentication is on, the token needs the scope `monitor` or `admin`.
        """
        callers.monitor(request)
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return [metrics]
