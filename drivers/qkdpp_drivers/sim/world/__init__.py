"""One optical world for all simulated instruments: source, fibre, detectors, clocks, and an eavesdropper."""
