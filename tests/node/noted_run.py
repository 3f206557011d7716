"""``qkdpp`` as it is, but every pad that its pool gives out or takes in is noted in POOLFILE.pads first."""

import os
import sys

from qkdpp.__main__ import main
from qkdpp.link.pool_file import FilePool
from qkdpp.node import assemble


class NotedPool(FilePool):
    """Writes down every pad before it serves; a line is there for good once written, whatever kills the process."""

    def __init__(self, path, role):
        self._notes = os.open(f"{path}.pads", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        super().__init__(path, role)

    def take(self, peer_filled=None):
        index, pad = super().take(peer_filled)
        os.write(self._notes, f"take {index}\n".encode())
        return index, pad

    def accept(self, index):
        super().accept(index)
        os.write(self._notes, f"accept {index}\n".encode())


assemble.FilePool = NotedPool
sys.exit(main())
