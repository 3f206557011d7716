"""Lets the tests of this folder share two_nodes.py and small_block.py, and use the proxy of the system tests."""

import sys
from pathlib import Path

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here.parent / "system")]
