"""One of two nodes as a process of its own: ``live_process.py ROLE FOLDER PORT``; SIGTERM ends it in order.

Keys lie as files in FOLDER/pending, FOLDER/ready and FOLDER/burned; FOLDER/pads.log has every pad given out and taken
in.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from small_block import PARAMETERS, block

from qkdpp.core.bits import Bits
from qkdpp.core.errors import LinkError
from qkdpp.core.keyfile import create_secret
from qkdpp.core.stage import Message
from qkdpp.link.events import Control
from qkdpp.link.hello import named_fields
from qkdpp.link.pool_file import FilePool
from qkdpp.link.session import Session, Setup
from qkdpp.link.tcp import Address, TcpLink
from qkdpp.node.blocks import BlockRunner, Policy
from qkdpp.node.messages import CONTROLS
from qkdpp.node.sink import Alarm


class Propose(Message, frozen=True, kw_only=True):
    block: int


class FolderSink:
    """A key store of files; every step is one durable rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("pending", "ready", "burned"):
            (folder / name).mkdir(exist_ok=True)

    def stage(self, block: int, key: Bits) -> None:
        create_secret(self.folder / "pending" / f"{block}.{len(key)}", key.to_bytes())

    def ready(self, block: int) -> None:
        self._move(block, "ready")

    def burn(self, block: int, reason: str) -> None:
        self._move(block, "burned")

    def _move(self, block: int, state: str) -> None:
        for path in (self.folder / "pending").glob(f"{block}.*"):
            path.rename(self.folder / state / path.name)

    def pending(self) -> dict[int, int]:
        return {int(path.stem): int(path.suffix[1:]) for path in (self.folder / "pending").glob("[0-9]*.*")}

    def held(self, block: int) -> int | None:
        found = [p for name in ("pending", "ready") for p in (self.folder / name).glob(f"{block}.*")]
        return int(found[0].suffix[1:]) if found else None


class LoggedPool(FilePool):
    """Writes down every pad before it serves."""

    def __init__(self, path: Path, role: str, log: Path) -> None:
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        super().__init__(path, role)  # type: ignore[arg-type]

    def take(self, peer_filled: int | None = None) -> tuple[int, bytes]:
        index, pad = super().take(peer_filled)
        os.write(self.log, f"take {index}\n".encode())
        return index, pad

    def accept(self, index: int) -> None:
        super().accept(index)
        os.write(self.log, f"accept {index}\n".encode())


async def propose(runner: BlockRunner) -> None:
    """Alice: as many blocks in flight as there are places."""
    while True:
        number = runner.new_number()
        await runner.open(number, *block("alice", number))
        runner.send_control(Propose(block=number))


async def follow(runner: BlockRunner) -> None:
    """Bob: opens what is proposed."""
    while (event := await runner.next_event()) is not None:
        if isinstance(event, Control) and isinstance(event.message, Propose):
            number = event.message.block
            await runner.open(number, *block("bob", number))


async def watch(runner: BlockRunner, *, events: bool) -> None:
    while events:
        event = await runner.next_event()
        if isinstance(event, Alarm):
            print(event, flush=True)
        if event is None:
            return


async def count(runner: BlockRunner) -> None:
    while True:
        end = await runner.next_end()
        print(end.block, "key" if isinstance(end.result, Bits) else end.result.reason.value, flush=True)


async def main(role: str, folder: Path, port: int) -> None:
    pool = LoggedPool(folder / "pool", role, folder / "pads.log")
    setup = Setup(role=role, parameters=named_fields(PARAMETERS))  # type: ignore[arg-type]
    session = Session(setup, pool, [*CONTROLS, Propose])
    link = TcpLink(session, Address(host="127.0.0.1", port=port, listen=role == "bob"), None)
    policy = Policy(deadline_s=5.0, refill_below=50_000, refill_to=50_000)
    runner = BlockRunner(link, pool, FolderSink(folder), role, policy)  # type: ignore[arg-type]
    running = asyncio.create_task(runner.run())
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    working = [
        asyncio.create_task(propose(runner) if role == "alice" else follow(runner)),
        asyncio.create_task(watch(runner, events=role == "alice")),
        asyncio.create_task(count(runner)),
    ]
    await asyncio.wait([asyncio.create_task(stopped.wait()), running], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await runner.close(5.0)
    await running
    for task in working:
        task.cancel()
    for result in await asyncio.gather(*working, return_exceptions=True):
        if isinstance(result, Exception) and not isinstance(result, LinkError):
            raise result


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
