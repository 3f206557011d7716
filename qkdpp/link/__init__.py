"""Frames, gates and authentication: drives a stage over a channel it does not own."""
