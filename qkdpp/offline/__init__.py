"""Recordings to keys: run files, both parties in one process, the result on disk."""
