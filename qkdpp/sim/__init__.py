"""Physics of source, channel and detectors, for tests, examples and planning.

True time is int64 femtoseconds since pulse 0 left Alice (or since the pair source was opened). A run is
computed in slices of true time; the work grows with detections, not with the pulses sent. Only the command line and
the tests use this package.
"""
