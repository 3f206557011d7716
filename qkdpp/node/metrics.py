"""Prometheus metrics of one node (``docs/formats/node.md``), served on a port of their own.

Key is counted in bytes, fractions allowed: the secret key rate is ``8 * rate(qkdpp_secret_key_bytes_total)``. No label
has values without bound, and nothing secret is among them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from qkdpp import __version__
from qkdpp.core.abort import Aborted
from qkdpp.core.errors import InputError
from qkdpp.delivery.metrics import Stock, exposed
from qkdpp.keystore import LinkStatus
from qkdpp.link.pool import LANES, PAD_BYTES
from qkdpp.node.config import ROLES, NodeFile
from qkdpp.node.figures import background_of, tested
from qkdpp.node.monitors import Alarm
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Status
from qkdpp.sifting.bb84 import Sifted
from qkdpp.sifting.bbm92 import SiftedPairs
from qkdpp.timing.clock import ClockReport
from qkdpp.timing.detect import Detections
from qkdpp.timing.pair_values import Matched
from qkdpp.timing.pulsed import Recovered

BITS_PER_BYTE: Final = 8
STATES: Final = ("connecting", "up", "down", "left", "failed", "stopped")
SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
BASES: Final = ("Z", "X")


class Metrics:
    """A watcher that counts; ``registry`` holds what is served.

    Args:
        link: value of the label ``link``.
        intensities: mean photon numbers, values of the label ``intensity``; empty for pairs, whose label is ``pairs``.
        stock: of the key store, asked at every scrape, from any thread.
    """

    def __init__(self, link: str, intensities: tuple[float, ...], stock: Callable[[], LinkStatus]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._link, self._intensities = link, tuple(f"{mu:g}" for mu in intensities) or ("pairs",)
        self._raw = self._counter("raw_events", "Detections by detector.", "detector")
        self._sifted = self._counter("sifted_events", "Detections of equal bases.", "basis", "intensity")
        self._disclosed = self._counter("disclosed_bytes", "Disclosed for a block.", "stage")
        self._secret = self._counter("secret_key_bytes", "Secret key handed to the store.")
        self._blocks = self._counter("blocks", "Blocks that ended, by result.", "result")
        self._qber = self._gauge("qber_ratio", "Error rate of the last block.", "basis", "intensity")
        self._phase = self._gauge("phase_error_bound_ratio", "Bound on the phase error rate of the last block.")
        self._efficiency = self._gauge("ec_efficiency_ratio", "Leak of error correction over the Shannon limit.")
        self._offset = self._gauge("sync_offset_seconds", "Offset of the clock line of the last block.")
        self._drift = self._gauge("sync_drift_ratio", "Relative rate of the clock in the last block.")
        self._visibility = self._gauge("visibility_ratio", "Visibility of the pairs of the last block.")
        self._contrast = self._gauge(
            "coincidence_contrast_ratio", "Coincidences of the last block over accidental ones."
        )
        self._dark = self._gauge("dark_rate_hertz", "Clicks between the pulses of the last block.", "detector")
        self._last = self._gauge("last_block_timestamp_seconds", "When the last block ended.")
        self._pool = self._gauge("auth_key_available_bytes", "Left in the authentication pool.")
        self._state = self._gauge("qkd_link_state", "1 for the present state.", "state")
        names = ["link", "stage"]
        self._stages = Histogram(
            "qkdpp_block_duration_seconds",
            "Time of the stages of a block.",
            names,
            buckets=SECONDS,
            registry=self.registry,
        )
        self._auth_bytes = 0.0
        self.registry.register(Stock(lambda: [(link, stock(), {"auth": self._auth_bytes})]))
        build = Gauge("qkdpp_build_info", "Version of qkdpp.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"qkdpp_{name}", text, ["link", *labels], registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"qkdpp_{name}", text, ["link", *labels], registry=self.registry)

    def changed(self, status: Status) -> None:
        """Pool and state of the link."""
        self._pool.labels(self._link).set(status.pool_tags * len(LANES) * PAD_BYTES)
        now = state_of(status)
        for state in STATES:
            self._state.labels(self._link, state).set(state == now)

    def alarm(self, alarm: Alarm) -> None:
        """Alarms are raised by rules over the metrics."""

    def block(self, end: BlockEnd, row: Mapping[str, Any]) -> None:
        """Counts one block."""
        aborted = isinstance(end.result, Aborted)
        self._blocks.labels(self._link, end.result.reason.value if isinstance(end.result, Aborted) else "ok").inc()
        self._last.labels(self._link).set(time.time())
        if not aborted:
            self._secret.labels(self._link).inc(row["secret_bits"] / BITS_PER_BYTE)
            self._auth_bytes += end.pool_bits / BITS_PER_BYTE
        for mark in end.log.stages:
            self._stages.labels(self._link, mark.name).observe(mark.seconds)
        self._clicks(end)
        sifted = end.log.facts.get("sifted")
        if isinstance(sifted, Sifted | SiftedPairs):
            self._sift(sifted, end)
        if end.log.length is not None and math.isfinite(end.log.length.phase_error_upper):
            self._phase.labels(self._link).set(end.log.length.phase_error_upper)
        if row.get("f_ec") is not None:
            self._efficiency.labels(self._link).set(row["f_ec"])

    def _clicks(self, end: BlockEnd) -> None:
        facts = end.log.facts
        found, recovered, matched = facts.get("detections"), facts.get("recovered"), facts.get("matched")
        if isinstance(found, Detections):
            self._count(found.basis << 1 | found.bit)
            if isinstance(seconds := facts.get("seconds"), float):
                for detector, clicks in zip(ROLES, background_of(found), strict=True):
                    self._dark.labels(self._link, detector).set(clicks / seconds)
        if isinstance(recovered, Recovered):
            self._follow(recovered.report)
        if isinstance(matched, Matched):
            self._count(matched.detector)
            if (pairs := matched.coincidences) is not None:
                self._follow(matched.clock)
                self._contrast.labels(self._link).set(len(matched) / max(pairs.accidentals, 1.0))

    def _count(self, detector_codes: NDArray[np.integer]) -> None:
        counts = np.bincount(detector_codes, minlength=len(ROLES))
        for detector, code in ROLES.items():
            self._raw.labels(self._link, detector).inc(int(counts[code]))

    def _follow(self, clock: ClockReport) -> None:
        self._offset.labels(self._link).set(clock.line_offset_s)
        self._drift.labels(self._link).set(clock.line_rate_ppm * 1e-6)

    def _sift(self, sifted: Sifted | SiftedPairs, end: BlockEnd) -> None:
        n, wrong = tested(sifted, end)
        if isinstance(sifted, SiftedPairs) and n.sum():
            self._visibility.labels(self._link).set(1.0 - 2.0 * int(wrong.sum()) / int(n.sum()))
        for k, intensity in enumerate(self._intensities):
            for b, basis in enumerate(BASES):
                events = int(n[k, b])
                self._sifted.labels(self._link, basis, intensity).inc(events)
                if events:
                    self._qber.labels(self._link, basis, intensity).set(int(wrong[k, b]) / events)
        self._disclose("estimation", int(sifted.disclosed.sum()))
        if end.log.costs is not None:
            self._disclose("ec", end.log.costs[0])
            self._disclose("verification", end.log.costs[1])

    def _disclose(self, stage: str, bits: int) -> None:
        self._disclosed.labels(self._link, stage).inc(bits / BITS_PER_BYTE)


def state_of(status: Status) -> str:
    """One of ``STATES``; ``stopped``: a security alarm keeps all keys back."""
    if status.security:
        return "stopped"
    word = status.link.partition(":")[0]
    return {"the peer has left": "left"}.get(word, word)


@contextlib.contextmanager
def metrics_of(file: NodeFile, stock: Callable[[], LinkStatus]) -> Iterator[Metrics | None]:
    """The metrics of a node, served until the end of the context; None where the file asks for none.

    ``stock``: see :class:`Metrics`. Raises InputError if the port cannot be had.
    """
    address = file.metrics.address()
    if address is None:
        yield None
        return
    source = file.parameters.source
    metrics = Metrics(file.node.name, () if source is None else tuple(source.intensities), stock)
    certificate, key = file.metrics.certificate, file.metrics.key
    tls = None if certificate is None or key is None else (file.folder / certificate, file.folder / key)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exposed(metrics.registry, *address, tls))
        except OSError as error:
            raise InputError(
                f"{file.path}: metrics.listen = {file.metrics.listen}: {error.strerror or error}; name another port"
            ) from error
        yield metrics
