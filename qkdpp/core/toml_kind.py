"""Which of qkdpp's TOML files somebody named instead of the one that is wanted, told by a section only it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NODE: Final = "a node file such as alice.toml, for `qkdpp run`"
DELIVERY: Final = "a delivery file such as kme-alice.toml, for `qkdpp serve`"
RUN: Final = "a run.toml, for `qkdpp distill`"
_BY_SECTION: Final = {
    "node": NODE,
    "server": DELIVERY,
    "instruments": "a laboratory, for `python -m qkdpp_drivers.sim.lab`",
    "channel": "a scenario, for `qkdpp simulate` and `qkdpp rate`",
    "alice": RUN,
}


def meant(document: Mapping[str, Any], wanted: str) -> str:
    """To be added to what is wrong with a file: which other kind it is; empty where that cannot be told."""
    found = next((kind for section, kind in _BY_SECTION.items() if section in document), wanted)
    return "" if found == wanted else f"; this is {found}, not {wanted}"
