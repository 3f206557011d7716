"""Calibration loops of a pulsed link (Chen et al., Nature 589, 214 (2021), Methods)."""
