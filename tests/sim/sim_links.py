"""Small scenarios for tests: an ideal link, and one thing wrong with it at a time."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import TimeTags, concatenate
from qkdpp.scenarios import scenario, scenario_file
from qkdpp.sim.bb84 import Bb84Run


def ideal(
    kind: str = "passive",
    *,
    duration_s: float = 0.4,
    source: dict[str, Any] | None = None,
    channel: dict[str, Any] | None = None,
    receiver: dict[str, Any] | None = None,
    tagger: dict[str, Any] | None = None,
    clock: dict[str, Any] | None = None,
    timing: dict[str, Any] | None = None,
    **top: Any,
) -> scenario.Scenario:
    """A link of 100 MHz at 20 dB with perfect detectors; sections are given as in TOML."""
    n = 4 if kind == "passive" else 2
    document = {
        "title": "test",
        "protocol": "bb84",
        "duration_s": duration_s,
        "source": {
            "pulse_period_as": 10**10,
            "intensities": [0.6, 0.2, 0.0],
            "p_intensity": [0.5, 0.3, 0.2],
            "p_z": 0.7,
            **(source or {}),
        },
        "channel": {"loss_db": 20.0, **(channel or {})},
        "bob": {
            "receiver": {
                "kind": kind,
                "p_z": 0.6,
                "efficiency": [1.0] * n,
                "dark_rate_hz": [0.0] * n,
                **(receiver or {}),
            },
            "tagger": tagger or {},
            "clock": clock or {},
        },
        "timing": {"method": "string", "gate_ps": 1000.0, **(timing or {})},
        **top,
    }
    plan = msgspec.convert(document, scenario.Scenario, strict=False)
    scenario_file.check(plan)
    return plan


class Outcome:
    """A finished run: all tags in one piece, Alice's record, and the run itself."""

    def __init__(self, plan: scenario.Scenario, seed: int) -> None:
        self.run = Bb84Run(plan, seed)
        pieces: list[tuple[NDArray[np.int64], NDArray[np.uint8]]] = []
        chunks = list(self.run.tags(lambda slots, codes: pieces.append((slots, codes))))
        self.tags: TimeTags = concatenate(chunks)
        self.slots = np.concatenate([slots for slots, _ in pieces])
        self.codes = np.concatenate([codes for _, codes in pieces])
        self.sent = self.run.totals()

    def clicks(self, basis: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pulses prepared in ``basis`` with clicks in it, and wrong bits among them, by intensity (gated)."""
        k = self.sent.shape[0]
        table = self.run.outcome.gated.reshape(k, 2, 2, 4, 4)[:, basis]
        own = table.sum(axis=2) if basis == 0 else table.sum(axis=3)  # [k, bit, clicked set of this basis]
        errors = own[:, 0, 2] + own[:, 1, 1] + own[:, :, 3].sum(axis=1) / 2
        return own[:, :, 1:].sum(axis=(1, 2)), errors
