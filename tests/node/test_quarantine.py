"""Keys rest for the look-back; an alarm burns what rests and nothing else."""

from memory_store import MemoryStore

from qkdpp.core.bits import Bits
from qkdpp.node.quarantine import Quarantine


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def resting(store: MemoryStore, *blocks: int) -> None:
    for block in blocks:
        store.stage(block, Bits.from_bytes(b"\x5a", 8))
        store.ready(block)


def test_keys_go_in_order_when_they_have_rested() -> None:
    store, clock = MemoryStore(), Clock()
    quarantine = Quarantine(store=store, look_back_s=60.0, now=clock)
    resting(store, 4)
    quarantine.rest(4)
    clock.now_s = 30.0
    resting(store, 7)
    quarantine.rest(7)
    clock.now_s = 59.9
    assert quarantine.due() is None
    clock.now_s = 60.0
    assert quarantine.due() == 4
    assert quarantine.due() is None
    assert store.states == {4: "released", 7: "ready"}
    clock.now_s = 90.0
    assert quarantine.due() == 7


def test_what_rests_while_a_current_is_unknown_rests_for_a_whole_look_back_afterwards() -> None:
    store, clock = MemoryStore(), Clock()
    quarantine = Quarantine(store=store, look_back_s=60.0, now=clock)
    resting(store, 4)
    quarantine.rest(4)
    clock.now_s = 59.0
    quarantine.begin_anew()
    clock.now_s = 118.9
    assert quarantine.due() is None
    clock.now_s = 119.0
    assert quarantine.due() == 4


def test_an_alarm_burns_what_rests_and_stops_release_for_good() -> None:
    store, clock = MemoryStore(), Clock()
    quarantine = Quarantine(store=store, look_back_s=10.0, now=clock)
    resting(store, 1)
    quarantine.rest(1)
    clock.now_s = 10.0
    assert quarantine.due() == 1
    resting(store, 2, 3)
    quarantine.rest(2)
    quarantine.rest(3)
    assert quarantine.stop("detector_current") == [2, 3]
    assert store.halted == "detector_current"
    clock.now_s = 100.0
    assert quarantine.due() is None
    assert store.states[1] == "released"
    assert {store.states[2], store.states[3]} == {"burned: detector_current"}
    assert sorted(store.keys) == [1]


def test_nothing_goes_that_the_monitors_have_not_seen() -> None:
    """Block 1 is ready late, after 2 has rested: its own rest counts, and both wait for it."""
    store, clock = MemoryStore(), Clock()
    quarantine = Quarantine(store=store, look_back_s=10.0, now=clock)
    resting(store, 2)
    quarantine.rest(2)
    clock.now_s = 11.0
    assert quarantine.due(oldest_open=1) is None
    resting(store, 1)
    assert quarantine.due() is None
    quarantine.rest(1)
    clock.now_s = 20.0
    assert quarantine.due() is None
    assert store.states == {1: "ready", 2: "ready"}
    clock.now_s = 21.0
    assert quarantine.due(oldest_open=3) == 2
    assert store.states == {1: "released", 2: "released"}
