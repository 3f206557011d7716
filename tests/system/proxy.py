"""A TCP proxy that cuts, delays, duplicates, reorders and corrupts outer frames of a live link, at any boundary.

It parses outer frames and nothing inside them, so TLS must be off. The
initiator connects to the proxy, the proxy to the listener. It can also add a frame of its own behind one, as anybody
in the line could: what carries no tag, its checksums right.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

HEADER_BYTES, LENGTH_AT, TYPE_AT, ENDS_AT, SEQ_AT = 52, slice(8, 12), 5, slice(12, 20), slice(20, 28)
HELLO, BLOCK, CONTROL, BYE, REFUSE = 1, 2, 3, 5, 6
Direction = Literal["out", "back"]
"""``out``: from the initiator to the listener."""
Kind = Literal["cut", "delay", "duplicate", "reorder", "corrupt", "corrupt header", "bye", "refuse", "greet", "usurp"]
KINDS: tuple[Kind, ...] = ("cut", "delay", "duplicate", "reorder", "corrupt", "corrupt header")
FORGERIES: tuple[Kind, ...] = ("bye", "refuse", "greet")
Plan = Callable[[Direction, int], Kind | None]
"""Given a direction and the number of the frame in it since the proxy began: what to do to it."""


@dataclass
class Proxy:
    """``host:target`` seen through ``plan``; every frame also takes ``delay_s``."""

    target: int
    plan: Plan = lambda _direction, _index: None
    delay_s: float = 0.0
    pause_s: float = 0.05
    """What "delay" adds to one frame."""
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.counts: dict[Direction, int] = {"out": 0, "back": 0}
        self.n_bytes: dict[Direction, int] = {"out": 0, "back": 0}
        self.types: Counter[tuple[Direction, int]] = Counter()
        self.spoiled: list[tuple[Direction, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """The port to connect to."""
        self._server = await asyncio.start_server(self._arrived, self.host, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Cuts everything and listens no more."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def cut(self) -> None:
        """Breaks the present connections, as a lost line would."""
        for writer in list(self._writers):
            writer.transport.abort()

    def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = {writer}
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.target)
            ends.add(far_writer)
            self._writers |= ends
            both = [
                asyncio.create_task(self._carry("out", reader, far_writer)),
                asyncio.create_task(self._carry("back", far_reader, writer)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except OSError:
            pass
        finally:
            self._writers -= ends
            for end in ends:
                with contextlib.suppress(OSError):
                    end.close()

    async def _carry(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of one connection, until it ends or is cut."""
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        sender = asyncio.create_task(self._deliver(due, writer))
        held = b""
        try:
            while True:
                frame = await _frame(reader)
                if frame is None:
                    break
                index = self.counts[direction]
                self.counts[direction] += 1
                self.n_bytes[direction] += len(frame)
                self.types[direction, frame[TYPE_AT]] += 1
                kind = self.plan(direction, index)
                if kind is not None:
                    self.spoiled.append((direction, index))
                if kind == "cut":
                    return
                if kind == "reorder":
                    held = frame
                    continue
                data = frame + held if kind != "duplicate" else frame + frame + held
                held = b""
                if kind == "corrupt":
                    data = data[:-1] + bytes([data[-1] ^ 0x10])
                elif kind == "corrupt header":
                    data = data[:10] + bytes([data[10] ^ 0x01]) + data[11:]
                elif kind in FORGERIES:
                    data += _forged(kind, frame[ENDS_AT])
                elif kind == "usurp":
                    data += _usurper(frame)
                pause_s = self.pause_s if kind == "delay" else 0.0
                due.put_nowait((loop.time() + self.delay_s + pause_s, data))
            due.put_nowait(None)
            await sender
        finally:
            sender.cancel()

    async def _deliver(self, due: asyncio.Queue[tuple[float, bytes] | None], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while (item := await due.get()) is not None:
                when_s, data = item
                if (wait_s := when_s - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()


def _forged(kind: Kind | None, ends: bytes) -> bytes:
    """A frame in the name of whoever sent the one before; ``ends``: incarnations of sender and receiver."""
    number, payload = {"bye": (BYE, b""), "refuse": (REFUSE, b"go away"), "greet": (HELLO, b"\x80")}[kind or ""]
    return _outer(number, ends, bytes(24), payload)


def _usurper(frame: bytes) -> bytes:
    """A frame of a block in the place of the next one, whatever that was."""
    seq = int.from_bytes(frame[SEQ_AT], "big") + (frame[TYPE_AT] in (BLOCK, CONTROL))
    return _outer(BLOCK, frame[ENDS_AT], seq.to_bytes(8, "big") + frame[28:44], bytes(40))


def _outer(number: int, ends: bytes, counts: bytes, payload: bytes) -> bytes:
    fields = struct.pack(">4sBBHI8s24sI", b"QKDL", 1, number, 0, len(payload), ends, counts, zlib.crc32(payload))
    return fields + struct.pack(">I", zlib.crc32(fields)) + payload


async def _frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next outer frame; None at the end of the connection."""
    try:
        header = await reader.readexactly(HEADER_BYTES)
        return header + await reader.readexactly(int.from_bytes(header[LENGTH_AT], "big"))
    except (asyncio.IncompleteReadError, OSError):
        return None
