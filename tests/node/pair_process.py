"""One node of a pair link as a process of its own: ``pair_process.py FILE PORT_FILE``; SIGTERM ends it in order.

Writes one line of JSON for every block that ends; a key shows by its digest only.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from memory_store import MemoryStore

from qkdpp.core.bits import Bits
from qkdpp.node.assemble import assembled
from qkdpp.node.config import load_node
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Status


class Lines:
    """A watcher that writes what happens."""

    def __init__(self) -> None:
        self.status: Status | None = None
        self.begun_s = time.monotonic()

    def block(self, end: BlockEnd, row: dict[str, Any]) -> None:
        key = end.result.to_bytes() if isinstance(end.result, Bits) else b""
        wanted = ("block", "secret_bits", "abort", "tags", "stage_seconds", "messages", "bytes")
        line = {name: row.get(name) for name in wanted}
        line |= {
            "s": round(time.monotonic() - self.begun_s, 2),
            "digest": hashlib.sha256(key).hexdigest() if key else None,
            "dropped": self.status.progress.dropped_blocks if self.status else 0,
            "cpu_s": round(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), 2),
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        }
        print(json.dumps(line), flush=True)

    def alarm(self, alarm: object) -> None:
        print(json.dumps({"alarm": str(alarm)}), flush=True)

    def changed(self, status: Status) -> None:
        self.status = status


async def main(file: Path, port_file: Path) -> None:
    with assembled(load_node(file), MemoryStore(), now=time.monotonic, watchers=[Lines()]) as made:
        running = asyncio.create_task(made.node.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, made.node.stop)
        while made.port() == 0 and not running.done():
            await asyncio.sleep(0.02)
        port_file.write_text(str(made.port()))
        await running


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
