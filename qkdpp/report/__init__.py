"""What a run looked like: JSON and a self-contained HTML page."""
