"""``kill -9`` of key managers while two applications read a stream: chunks are lost, none comes twice or differs."""

import contextlib
import threading
import time
from uuid import uuid4

from serve_processes import Served
from worlds import KMES, OUT_S, World

from qkdpp.core.errors import LinkError
from qkdpp.delivery import Client, DeliveryError

STREAM = uuid4()


class Reader:
    """Reads until it has seen enough, whatever happens to its key manager; never asks for an index."""

    def __init__(self, served: Served, sae: str) -> None:
        self.served, self.sae = served, sae
        self.got: list[tuple[int, bytes]] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(DeliveryError, LinkError), self.client() as client:
                stream = client.open_stream("sae-a", "sae-b", stream_id=STREAM, Key_chunk_size=8, Max_bps=64 * 60)
                while not self.stop.is_set():
                    chunk = stream.get()
                    self.got.append((chunk.index, chunk.key))
            time.sleep(0.02)

    def client(self) -> Client:
        pki = self.served.pki
        where = f"127.0.0.1:{self.served.ports[World.home(self.sae)]}"
        return Client(
            where, authority=pki / "authority.pem", certificate=pki / f"{self.sae}.pem", key=pki / f"{self.sae}.key"
        )


def test_key_managers_are_killed_while_a_stream_is_read(served: Served) -> None:
    readers = [Reader(served, sae) for sae in ("sae-a", "sae-b")]
    try:
        for killed in KMES:
            seen = [len(reader.got) for reader in readers]
            World.wait(lambda seen=seen: all(len(r.got) > n + 20 for r, n in zip(readers, seen, strict=True)))
            served.processes[killed].kill()
            served.processes[killed].wait(OUT_S)
            served.again(killed)
        seen = [len(reader.got) for reader in readers]
        World.wait(lambda: all(len(r.got) > n + 20 for r, n in zip(readers, seen, strict=True)))
    finally:
        for reader in readers:
            reader.stop.set()
        for reader in readers:
            reader.thread.join(OUT_S)
    a, b = (dict(reader.got) for reader in readers)
    assert [len(a), len(b)] == [len(reader.got) for reader in readers]
    both = a.keys() & b.keys()
    assert len(both) > 20
    assert {i: a[i] for i in both} == {i: b[i] for i in both}
    assert len({*a.values(), *b.values()}) == len(a.keys() | b.keys())
