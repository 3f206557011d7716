"""Clock recovery, per-detector delays, gating: from tags to slot numbers."""
