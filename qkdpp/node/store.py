"""The key store of a node, as its file names it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from qkdpp.core.errors import ConfigError
from qkdpp.node.config import NodeFile
from qkdpp.node.quarantine import LiveStore


@contextlib.contextmanager
def open_store(file: NodeFile) -> Iterator[LiveStore]:
    """The store, open until the end of the context."""
    raise ConfigError(f"{file.path}: no key store")
