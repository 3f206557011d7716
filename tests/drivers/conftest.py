"""Helpers of the driver tests (see ``dialogue.py``)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
