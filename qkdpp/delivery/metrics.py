"""Counters of delivery for Prometheus, and the figures of the key store: no identifiers of keys, known labels only."""

from __future__ import annotations

import contextlib
import logging
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qkdpp import __version__
from qkdpp.keystore import KeyStore, LinkStatus

LOGGER = logging.getLogger(__name__)
SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


@dataclass(slots=True)
class Seen:
    """What a request came to."""

    code: int = 0


class Stock(Collector):
    """Figures of a key store as they are at a scrape.

    Args:
        ask: for every link the value of its label, stock, and bytes used otherwise than the store knows, by use; called
            from any thread.
    """

    def __init__(self, ask: Callable[[], Sequence[tuple[str, LinkStatus, Mapping[str, float]]]]) -> None:
        self._ask = ask

    def describe(self) -> Iterable[Metric]:
        """Nothing: the store is not asked before a scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Stock and capacity by direction (``tx``: this end allocates), and what became of key."""
        stock = GaugeMetricFamily(
            "qkdpp_key_store_available_bytes", "Key that can be given out.", labels=["link", "dir"]
        )
        capacity = GaugeMetricFamily(
            "qkdpp_key_store_capacity_bytes", "Most that is kept for giving out.", labels=["link", "dir"]
        )
        used = CounterMetricFamily("qkdpp_key_consumed_bytes", "Key used up or discarded.", labels=["link", "use"])
        for link, found, others in self._ask():
            for direction, n_bytes in (("tx", found.available), ("rx", found.incoming)):
                stock.add_metric([link, direction], n_bytes)
                capacity.add_metric([link, direction], found.capacity)
            for use in ("app", "burned", "expired"):
                used.add_metric([link, use], found.totals[use])
            for use, amount in others.items():
                used.add_metric([link, use], amount)
        yield from (stock, capacity, used)


class Metrics(Collector):
    """Of an open store; ``links`` gives, at every scrape, each peer's name and whether it can be reached."""

    def __init__(self, store: KeyStore, links: Callable[[], list[tuple[str, bool]]]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._links, self._store = links, store
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
        self._chunks = Counter("qkdpp_stream_chunks", "Chunks handed out.", ["sae", "role"], registry=self.registry)
        self.registry.register(Stock(self._stock))
        self.registry.register(self)
        build = Gauge("qkdpp_build_info", "Version of qkdpp.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)

    def _stock(self) -> list[tuple[str, LinkStatus, Mapping[str, float]]]:
        asked = [(link.line.peer, link.status()) for link in self._store.links()]
        return [(peer, status.result(), {}) for peer, status in asked]

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

    def chunk(self, sae: str, role: str) -> None:
        """Counts a chunk of a stream given to an application of the registry."""
        self._chunks.labels(sae, role).inc()

    def collect(self) -> Iterable[Metric]:
        """Asked by the registry."""
        up = GaugeMetricFamily("qkdpp_km_link_up", "Keys can be agreed on with the peer.", labels=["link"])
        for name, reachable in self._links():
            up.add_metric([name], float(reachable))
        alarms = CounterMetricFamily("qkdpp_key_store_alarms", "Alarms of the key store: a person must look.")
        alarms.add_metric([], self._store.alarms)
        yield from (up, alarms)


@contextlib.contextmanager
def exposed(registry: CollectorRegistry, host: str, port: int, tls: tuple[Path, Path] | None) -> Iterator[int]:
    """Tells figures under ``/metrics`` until the end of the context; gives the port. OSError if that cannot be.

    ``tls``: PEM files of the certificate and its key.
    """
    certificate, key = (None, None) if tls is None else map(str, tls)
    server, thread = start_http_server(port, host, registry, certfile=certificate, keyfile=key)
    if isinstance(server.socket, ssl.SSLSocket):
        # Left to the request's thread, so that a silent client stops no other; the stubs lack the name.
        server.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]
    server.handle_error = _note  # type: ignore[method-assign]
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _note(request: object, client_address: object) -> None:
    """A client that goes away, or speaks no TLS, is no fault of ours."""
    LOGGER.info("metrics asked for by %s, in vain: %s", client_address, sys.exc_info()[1])
