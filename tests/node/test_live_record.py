"""Alice's record of a live block: relative slots, what it keeps for a recording, a transmitter that fails."""

import numpy as np
import pytest

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import DeviceError
from qkdpp.node.live_record import LiveRecord

FIRST, COUNT = 1000, 500


class Unit:
    """Holds the code ``pulse % 12`` of every pulse of epoch 4."""

    def __init__(self):
        self.fails = False

    def lookup(self, epoch, slots):
        if self.fails or epoch != 4:
            raise DeviceError("lamp: not all of these pulses were sent")
        return (slots % 12).astype(np.uint8)

    def totals(self, epoch, first, count, n_codes):
        if self.fails:
            raise DeviceError("lamp: not all of these pulses were sent")
        return np.bincount(np.arange(first, first + count) % 12, minlength=n_codes).astype(np.int64)


def record(unit):
    return LiveRecord(unit, epoch=4, first=FIRST, n_pulses=COUNT, n_codes=12, string=None)


def test_slots_count_from_the_first_pulse_and_others_are_not_held():
    made = record(Unit())
    slots = np.array([-1, 0, 7, 499, 500])
    assert made.lookup(slots).tolist() == [255, 1000 % 12, 1007 % 12, 1499 % 12, 255]
    assert made.asked.tolist() == slots.tolist()
    assert made.totals().shape == (3, 2, 2)
    assert made.totals().sum() == COUNT
    assert np.array_equal(made.totals_asked, made.totals())


@pytest.mark.parametrize("question", ["lookup", "totals"])
def test_a_transmitter_that_fails_ends_the_block_alone(question):
    unit = Unit()
    unit.fails = True
    made = record(unit)
    with pytest.raises(Abort) as ended:
        made.lookup(np.array([3])) if question == "lookup" else made.totals()
    assert ended.value.aborted.reason is AbortReason.INSTRUMENT_FAILED


def test_nothing_secret_shows():
    made = record(Unit())
    made.lookup(np.array([3, 5]))
    assert repr(made) == "LiveRecord(epoch=4, first=1000, n_pulses=500)"
