"""Delivery under load: ``python bench/delivery.py [RATE ...]``, in requests a second at each side.

Two ``qkdpp serve`` on stores filled beforehand and one process that asks (``tests/delivery/load.py``), all on this
machine. For every rate: what was reached, times of the answers, processor time of the three processes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "delivery"))

from load import KEY_BYTES, Load, Servers, percentiles_ms, run_load, servers
from worlds import KMES, certificates


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rates", type=float, nargs="*", default=[100.0, 300.0, 500.0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=None, help="for the stores; its disk bears the load")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        need = round(sum(asked.rates) * asked.seconds) * KEY_BYTES
        with servers(folder, certificates(folder / "pki"), need + (1 << 20)) as both:
            for rate in asked.rates:
                measure(both, rate, asked.seconds)


def measure(both: Servers, rate_hz: float, seconds: float) -> None:
    before, own_s = {own: both.processor_s(own) for own in KMES}, time.process_time()
    load = asyncio.run(run_load(both.pki, both.ports, rate_hz, seconds))
    taken = {own: both.processor_s(own) - before[own] for own in KMES} | {"load": time.process_time() - own_s}
    show(load, taken)


def show(load: Load, taken_s: dict[str, float]) -> None:
    n = max(1, len(load.dec_s))
    costs = ", ".join(f"{name} {1e3 * seconds / n:.2f}" for name, seconds in taken_s.items())
    print(f"{load.rate_hz:g}/s asked, {load.reached_hz:.0f}/s reached; machine's load {os.getloadavg()[0]:.1f}")
    print(f"  ms of processor for both requests: {costs}")
    for what, times in (("enc_keys", load.enc_s), ("dec_keys", load.dec_s)):
        if times:
            print(f"  {what}: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in percentiles_ms(times).items()))
    for fault, count in load.faults.most_common(5):
        print(f"  {count} times: {fault}")


if __name__ == "__main__":
    main()
