"""The tests of this folder share recipe_page.py, use the node's two_processes.py, and import the recipes' programs."""

import sys
from pathlib import Path

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here.parent / "node"), str(here.parents[1] / "docs" / "recipes")]
