"""Clock recovery, per-detector delays, gating: from tags to slot numbers.

Here: prepare and measure (``pulsed``: clock from ``sync`` pulses or from the
qubits themselves, numbers from the public string; ``detect``: gate, blanking,
double clicks) and entangled pairs (``pairs``: the conversation; its pieces are
``pair_*``). Not here: bases, bits kept or thrown away, anything that needs the
other party's tags. Two rules: ticks are integers and positions are rebased per
piece; nothing counts while the clock is unlocked. Notes: ``docs/notes/timing.md``.
"""
