"""An independent recount of what was disclosed, from the recorded transcript alone.

Knows the wire (MessagePack maps with a ``type`` key) and the messages' packed
bytes; imports neither the ledger nor the stages. A block whose ledger does not
agree with this recount is our fault and yields no key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """Bits found on the wire, by who sent them: parities and syndromes of a key, flags, verification."""

    parity_alice: int
    parity_bob: int
    pattern_alice: int
    pattern_bob: int
    verification: int


def recount(messages: Iterable[tuple[str, bytes]]) -> Recount:
    """Counts the messages of a transcript, given as (sender, MessagePack body) in the order of sending."""
    totals = {f"{kind}_{side}": 0 for kind in ("parity", "pattern") for side in ("alice", "bob")}
    verification = 0
    for side, body in messages:
        fields: dict[str, Any] = msgspec.msgpack.decode(body)
        rule = _RULES.get(fields["type"])
        if rule is None:
            continue
        for kind, bits in rule(fields):
            if kind == "verification":
                verification += bits
            else:
                totals[f"{kind}_{side}"] += bits
    return Recount(verification=verification, **totals)
