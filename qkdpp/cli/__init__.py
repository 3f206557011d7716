"""The command line: one file per verb, each a thin layer over a public function."""

from qkdpp.cli.app import main

__all__ = ["main"]
