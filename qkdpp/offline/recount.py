"""An independent recount of what was disclosed, from the recorded transcript alone.

Knows the wire (MessagePack maps with a ``type`` key) and the messages' packed
bytes; imports neither the ledger nor the stages. A block whose ledger does not
agree with this recount is our fault and yields no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from qkdpp.core.errors import LocalProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """Bits found on the wire, by who sent them: parities and syndromes of a key, flags, verification."""

    parity_alice: int
    parity_bob: int
    pattern_alice: int
    pattern_bob: int
    verification: int


_PACKED = {
    "n_parities": ("parities", "parity"),
    "n_syndrome_bits": ("syndromes", "parity"),
    "n_flags": ("flags", "pattern"),
}
"""Count field of a message of error correction -> its packed bytes, and the kind of bit they are."""
COUNT_BITS = 64
SILENT = frozenset(
    """Hello Length ClickMap Bases Preparation TestResult ReceiverClicks PairBases PairBits CascadeStart HammingStart
    AmplificationSeed CalibrationRequest CalibrationSegment AnnouncedSlots MatchedSlots""".split()  # noqa: SIM905
)
"""Messages that no key bit enters: announcements, public coins, and bits that never become key."""


def recount(messages: Iterable[tuple[str, bytes]]) -> Recount:
    """Counts the messages of a transcript, given as (sender, MessagePack body) in the order of sending.

    Raises LocalProtocolError where a count does not fit the bytes beside it.
    """
    totals = {f"{kind}_{side}": 0 for kind in ("parity", "pattern") for side in ("alice", "bob")}
    totals["verification"] = 0
    for side, body in messages:
        fields: dict[str, Any] = msgspec.msgpack.decode(body)
        for kind, bits in _disclosed(fields):
            totals["verification" if kind == "verification" else f"{kind}_{side}"] += bits
    return Recount(**totals)


def _disclosed(fields: dict[str, Any]) -> Iterator[tuple[str, int]]:
    name = fields["type"]
    if name == "VerificationTags":
        yield "verification", _fitting(name, fields["n_tags"] * fields["tag_bits"], fields["tags"])
    elif name == "VerificationVerdict":
        yield "verification", _fitting(name, fields["n_tags"], fields["matches"])
    elif name == "ErrorCounts":
        yield "pattern", COUNT_BITS * len(fields["counts"])
    elif name not in SILENT:
        counted = [count for count in _PACKED if count in fields]
        if not counted:
            raise LocalProtocolError(f"{name}: a message that the recount does not know")
        for count in counted:
            data, kind = _PACKED[count]
            yield kind, _fitting(name, fields[count], fields[data])


def _fitting(name: str, bits: int, data: bytes) -> int:
    if len(data) != (bits + 7) // 8:
        raise LocalProtocolError(f"{name}: {bits} bits stated, {len(data)} bytes sent")
    return bits
