"""Recorded detections and prepared states: readers, writers, format detection."""

from qkdpp.sources.batches import ReadStats
from qkdpp.sources.recording import Recording, open_recording, read_all
from qkdpp.sources.writing import write_recording

__all__ = ["ReadStats", "Recording", "open_recording", "read_all", "write_recording"]
