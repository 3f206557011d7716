"""Physics of source, channel and detectors, for tests, examples and planning."""
