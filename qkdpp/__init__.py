"""qkdpp: from single-photon detections to secret keys.

The sub-packages follow the data: sources, timing, sifting, estimation,
reconciliation, verification, amplification; ``protocols`` puts them in order.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("qkdpp")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
