"""Counters of delivery for Prometheus: no identifiers of keys, and labels with known values only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


@dataclass(slots=True)
class Seen:
    """What a request came to."""

    code: int = 0


class Metrics(Collector):
    """``links`` gives, at every scrape, each peer's name and whether it can be reached."""

    def __init__(self, links: Callable[[], list[tuple[str, bool]]]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._links = links
        self._requests = Counter(
            "qkdpp_api_requests", "Requests of applications.", ["method", "code"], registry=self.registry
        )
        self._duration = Histogram(
            "qkdpp_api_request_duration_seconds",
            "Time to answer.",
            ["method"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._delivered = Counter("qkdpp_keys_delivered", "Keys handed out.", ["sae", "role"], registry=self.registry)
        self.registry.register(self)

    @contextlib.contextmanager
    def request(self, method: str) -> Iterator[Seen]:
        """Counts and times one request."""
        seen, begin_s = Seen(), time.perf_counter()
        try:
            yield seen
        finally:
            self._requests.labels(method, str(seen.code)).inc()
            self._duration.labels(method).observe(time.perf_counter() - begin_s)

    def delivered(self, sae: str, role: str, number: int) -> None:
        """Counts keys given to an application of the registry."""
        self._delivered.labels(sae, role).inc(number)

    def collect(self) -> Iterable[Metric]:
        """Asked by the registry."""
        up = GaugeMetricFamily("qkdpp_km_link_up", "Keys can be agreed on with the peer.", labels=["link"])
        for name, reachable in self._links():
            up.add_metric([name], float(reachable))
        yield up
