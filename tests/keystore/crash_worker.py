"""A key manager's store in a process of its own, told what to do over a socket, that kills itself where it is told.

Run as ``python crash_worker.py SOCKET``: every connection gets a fork. Lines of
JSON: the first names folder, own name, time and the point and occurrence at
which to die; then one line ``[method, argument]`` and one answer each.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from qkdpp.core.bits import Bits
from qkdpp.core.errors import InputError, QkdppError
from qkdpp.keystore import FileWrapping, Hello, KeyStore, Reservation, Terms

NAMES = ("kme-a", "kme-b")


class Begin(msgspec.Struct):
    folder: str
    own: str
    now: int
    point: str
    occurrence: int


class Worker:
    def __init__(self, begin: Begin) -> None:
        self.now, self.left, self.point = begin.now, begin.occurrence, begin.point
        folder, own = Path(begin.folder), begin.own
        wrapping = FileWrapping(folder / "kek")
        self.alarms: list[str] = []
        while True:
            try:
                self.store = KeyStore(
                    folder / own, own, wrapping, clock=lambda: self.now, alarm=self.alarms.append, fault=self.fault
                )
                break
            except InputError as error:  # the kernel may still be clearing away the one before
                if "another process" not in str(error):
                    raise
            time.sleep(0.001)
        self.link = self.store.link(NAMES[1 - NAMES.index(own)])

    def fault(self, point: str) -> None:
        self.left -= point == self.point
        if self.point == point and self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def do(self, method: str, argument: Any) -> Any:
        link, store = self.link, self.store
        if method == "stage":
            return link.stage(argument[0], Bits.from_bytes(bytes.fromhex(argument[1]), 4 * len(argument[1])))
        if method in {"ready", "release", "held"}:
            return getattr(link, method)(argument)
        if method == "burn":
            return link.burn(argument, "not held by the peer")
        if method == "pending":
            return sorted(link.pending().items())
        if method == "hello":
            return link.hello().result()
        if method == "meet":
            return link.meet(msgspec.convert(argument, Hello)).result().answer
        if method == "reserve":
            number, nbytes, slaves, ttl_s = argument
            return link.reserve(number, nbytes, master="sae-m", slaves=slaves, ttl_s=ttl_s).result()
        if method == "accept":
            return link.accept(msgspec.convert(argument, Reservation)).result()
        if method == "void":
            return link.void([UUID(i) for i in argument]).result()
        if method == "commit":
            ids, near = [UUID(i) for i in argument[0]], argument[1]
            done = store.commit_at([link.line.peer], ids, near) if near else link.commit(ids)
            return [(key.key_id, key.secret.hex()) for key in done.result()]
        if method == "deliver":
            keys = store.deliver(argument[0], [UUID(i) for i in argument[1]], master="sae-m").result()
            return [(key.key_id, key.secret.hex()) for key in keys]
        if method == "grant":
            return link.grant().result()
        if method == "granted":
            return link.granted(1, argument).result()
        if method == "join":
            terms, here, who = argument
            return link.join(msgspec.convert(terms, Terms), here=here, who=who).result().joined
        if method == "reserve chunks":
            return link.reserve_chunks(UUID(argument[0]), argument[1]).result()
        if method == "take":
            found = link.take(UUID(argument[0]), *argument[1:]).result()
            return [(index, key.key_id, key.secret.hex()) for index, (key, _) in found.items()]
        if method == "close stream":
            return link.close_stream(UUID(argument[0]), who=argument[1], last=argument[2]).result().closed
        if method == "time":
            self.now = argument
            return store.expire().result()
        if method == "arm":
            self.point, self.left = argument
            return None
        if method == "alarms":
            return self.alarms
        raise AssertionError(method)


def serve(connection: socket.socket) -> None:
    with connection.makefile("rwb") as lines:
        worker = Worker(msgspec.json.decode(lines.readline(), type=Begin))
        lines.write(b"null\n")
        lines.flush()
        for line in lines:
            method, argument = msgspec.json.decode(line)
            if method == "close":
                worker.store.close()
                return
            try:
                answer = {"ok": worker.do(method, argument)}
            except QkdppError as error:
                answer = {"error": type(error).__name__, "text": str(error)}
            lines.write(msgspec.json.encode(answer) + b"\n")
            lines.flush()


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                try:
                    serve(connection)
                except BaseException:
                    traceback.print_exc()
                os._exit(0)
            connection.close()


if __name__ == "__main__":
    main()
