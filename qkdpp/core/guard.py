"""Keeps keys in the memory of this process out of core files, and from debuggers of the same user.

Linux only (elsewhere the limit alone is set). Not against root, swap or suspend to disk.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""Number of the operation in ``linux/prctl.h``."""


def keep_memory_private() -> None:
    """For a process that holds keys, before it reads the first. OSError if the system refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the memory of this process cannot be kept out of core files (prctl)")
