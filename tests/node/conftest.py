"""Lets the tests of this folder share two_nodes.py and small_block.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
