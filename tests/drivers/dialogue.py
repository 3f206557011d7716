"""The other end of a memory transport: a conversation written down beforehand."""

from qkdpp_drivers.transports import ManualClock, MemoryTransport


class Dialogue:
    """Expects the host's bytes in the given order and answers each piece; leftovers fail in ``done``."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.faults = set()
        self._heard, self._answers = b"", b""

    def receive(self, data):
        self._heard += data
        while self.lines and self._heard.startswith(self.lines[0][0]):
            asked, answer = self.lines.pop(0)
            self._heard = self._heard[len(asked) :]
            self._answers += answer
        expected = self.lines[0][0] if self.lines else b""
        assert expected.startswith(self._heard), f"host sent {self._heard!r}, expected {expected!r}"

    def poll(self):
        answers, self._answers = self._answers, b""
        return answers

    def push(self, data):
        """Bytes that come by themselves."""
        self._answers += data

    def done(self):
        assert not self.lines, f"never asked: {[asked for asked, _ in self.lines]}"
        assert not self._heard


def transport_to(peer, clock=None):
    """An unopened memory transport."""
    return MemoryTransport(peer, clock or ManualClock(), name=type(peer).__name__)
