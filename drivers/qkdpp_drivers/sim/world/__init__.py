"""One optical world for all simulated instruments: source, fibre, polarisation, detectors, clocks, and an eavesdropper."""
