"""A key store in memory, for tests of nodes."""

import threading

from qkdpp.core.bits import Bits


class MemoryStore:
    """Keys by block, with the state each is in."""

    def __init__(self) -> None:
        self.keys: dict[int, Bits] = {}
        self.states: dict[int, str] = {}
        self.lock = threading.Lock()

    def stage(self, block: int, key: Bits) -> None:
        with self.lock:
            self.keys[block], self.states[block] = key, "pending"

    def ready(self, block: int) -> None:
        self.states[block] = "ready"

    def burn(self, block: int, reason: str) -> None:
        self.keys.pop(block, None)
        self.states[block] = f"burned: {reason}"

    def pending(self) -> dict[int, int]:
        return {b: len(self.keys[b]) for b, state in self.states.items() if state == "pending"}

    def held(self, block: int) -> int | None:
        return len(self.keys[block]) if block in self.keys else None

    def release(self, up_to: int) -> list[int]:
        going = [b for b, state in self.states.items() if state == "ready" and b <= up_to]
        for block in going:
            self.states[block] = "released"
        return going

    def halt(self, reason: str) -> None:
        self.halted = reason

    def resting(self) -> list[int]:
        return sorted(b for b, state in self.states.items() if state == "ready")
