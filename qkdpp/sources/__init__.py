"""Recorded detections and prepared states: readers, writers, format detection."""
