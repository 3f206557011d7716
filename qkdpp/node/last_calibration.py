"""The last calibration of a node, kept for a start soon after: a kill, an update, a lost link.

It holds while the instruments stand as it left them and the configuration asks
for the same, for ``keep_s`` seconds since it was made or since the last block
that gave a key with it. Whatever else has changed shows in the next block: no
lock, or an error rate that asks for calibration.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from qkdpp.node.calibrate.sensitivity import Sensitivity

_log = logging.getLogger("qkdpp.node")


class LastCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the loops found.

    Attributes:
        asked: the configuration, as text.
        readings: settings of the instruments when the loops had ended or tracking last moved them, as read back.
        moving: those that tracking has begun to move since; they stand somewhere near.
        best: where tracking believes them to stand best: it tries settings beside that one.
        delays_ps: optimal gate delays by detector; None without a delay scan.
        known_delay_ticks: delays by channel.
        sensitivities: of the polarisation controllers, rectilinear and diagonal; None where they were not measured.
    """

    asked: str
    readings: dict[str, float]
    delays_ps: list[float] | None
    known_delay_ticks: dict[int, float]
    sensitivities: tuple[Sensitivity, Sensitivity] | None = None
    moving: list[str] = []
    best: dict[str, float] = {}


class CalibrationFile:
    """The file ``path``; ``keep_s`` 0 keeps nothing."""

    def __init__(self, path: Path, keep_s: float) -> None:
        self._path, self._keep_s = path, keep_s
        self._lock = threading.Lock()

    def save(self, last: LastCalibration) -> None:
        """Instead of an earlier one, at once or not at all."""
        if self._keep_s > 0.0:
            with self._lock:
                self._write(last)

    def moving(self, names: Iterable[str]) -> None:
        """Tracking is about to move these a little: whoever is killed on the way goes on from where they stand."""
        self._change(moving=list(names))

    def follow(self, readings: Mapping[str, float], best: Mapping[str, float]) -> None:
        """Instruments were moved by tracking: it holds as long as before, if it still does, where they stand now."""
        self._change(readings=dict(readings), moving=[], best=dict(best))

    def _change(self, **fields: object) -> None:
        """Without winning time."""
        with self._lock, contextlib.suppress(OSError, msgspec.DecodeError):
            last = msgspec.json.decode(self._path.read_bytes(), type=LastCalibration)
            since = self._path.stat()
            self._write(msgspec.structs.replace(last, **fields))
            os.utime(self._path, ns=(since.st_atime_ns, since.st_mtime_ns))

    def _write(self, last: LastCalibration) -> None:
        half = self._path.with_suffix(".new")
        half.write_bytes(msgspec.json.encode(last))
        half.replace(self._path)

    def confirm(self) -> None:
        """A block has given a key with it: it holds from now on."""
        if self._path.exists():
            os.utime(self._path)

    def discard(self) -> None:
        """Loops begin: what was found before holds no longer."""
        with self._lock:
            self._path.unlink(missing_ok=True)

    def load(self, asked: str, readings: Mapping[str, float]) -> LastCalibration | None:
        """The last calibration if it holds for this configuration and these settings, else None."""
        try:
            last = msgspec.json.decode(self._path.read_bytes(), type=LastCalibration)
            age_s = time.time() - self._path.stat().st_mtime
        except (OSError, msgspec.DecodeError):
            return None
        if not 0.0 <= age_s <= self._keep_s or last.asked != asked:
            return None
        if last.readings | {name: readings[name] for name in last.moving if name in readings} != dict(readings):
            _log.info("the instruments do not stand as the last calibration left them")
            return None
        return last
