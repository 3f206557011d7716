"""Swabian Time Tagger: a stand-in for the maker's library with its names and event types, and its absence."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import SettingError, TransportClosed
from qkdpp_drivers.taggers import swabian
from qkdpp_drivers.taggers.swabian import SwabianTagger


class Buffer:
    def __init__(self, rows):
        self.rows = rows

    def getTimestamps(self):  # noqa: N802
        return np.array([row[1] for row in self.rows], np.int64)

    def getChannels(self):  # noqa: N802
        return np.array([row[2] for row in self.rows], np.int32)

    def getEventTypes(self):  # noqa: N802
        return np.array([row[0] for row in self.rows], np.uint8)


@pytest.fixture
def fake(monkeypatch):
    """The library with one tagger, whose stream delivers ``buffers``."""
    levels = {}
    state = SimpleNamespace(buffers=[], overflows=0, gone=False, opened=[], freed=0, statistics=True)

    def get_data():
        if state.gone:
            raise RuntimeError("device removed")
        return Buffer(state.buffers.pop(0) if state.buffers else [])

    def overflows():
        found, state.overflows = state.overflows, 0
        return found

    tagger = SimpleNamespace(
        getModel=lambda: "Ultra",
        getSerial=lambda: "2138000XYZ",
        setTriggerLevel=levels.__setitem__,
        getTriggerLevel=lambda channel: levels.get(channel, 0.5),
        getOverflowsAndClear=overflows,
    )

    def create(address):
        if state.gone:
            raise RuntimeError("no Time Tagger attached")
        state.opened.append(address)
        return tagger

    module = SimpleNamespace(
        createTimeTagger=create,
        createTimeTaggerNetwork=create,
        freeTimeTagger=lambda given: setattr(state, "freed", state.freed + 1),
        setUsageStatisticsStatus=lambda status: setattr(state, "statistics", status),
        UsageStatisticsStatus=SimpleNamespace(Disabled="off"),
        TimeTagStream=lambda given, most, channels: SimpleNamespace(
            start=lambda: None, stop=lambda: None, getData=get_data
        ),
    )
    monkeypatch.setitem(sys.modules, "Swabian", SimpleNamespace(TimeTagger=module))
    monkeypatch.setitem(sys.modules, "Swabian.TimeTagger", module)
    return state


def test_a_missing_library_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "Swabian", None)
    with pytest.raises(DeviceError, match=r"not installed; pip install 'qkdpp\[swabian\]'"):
        SwabianTagger.from_url("swabian://").connect()


def test_tags_and_every_kind_of_loss(fake):
    driver = SwabianTagger.from_url("swabian://2138000XYZ", channels="1,-2")
    assert driver.connect().model == "Time Tagger Ultra"
    assert fake.opened == ["2138000XYZ"]
    assert fake.statistics == "off"
    fake.buffers = [
        [(0, 1000, 1), (0, 1500, -2)],
        [(2, 2000, 0), (4, 2500, 1), (3, 3000, 0), (0, 3200, 1)],
        [(1, 4000, 0), (0, 4100, -2), (4, 4500, 1)],
    ]
    driver.start()
    clean = driver.read(0.0)
    assert clean.clean
    assert clean.tags.ticks.tolist() == [0, 500]
    assert clean.tags.channel.tolist() == [0, 1]
    assert clean.tags.channel_ids == (1, -2)
    overflow = driver.read(0.0)
    assert overflow.flags == ("overflow",)
    assert (1000, 2000) in overflow.tags.lost
    assert overflow.tags.ticks.tolist() == [2200]
    last = driver.read(0.0)
    assert set(last.flags) == {"stream_error", "overflow"}
    assert last.tags.lost == ((2200, 3000), (3100, 3500))
    assert not driver.status()["clean"]
    assert driver.status()["clean"]
    fake.overflows = 3
    assert driver.status() == {"clean": False, "overflows": 3, "streaming": True, "epoch": 1}


def test_an_overflow_without_end_reaches_to_the_stop(fake):
    driver = SwabianTagger.from_url("swabian://")
    driver.connect()
    driver.start()
    fake.buffers = [[(0, 10, 1), (2, 20, 0)], [(0, 90, 1)]]
    first = driver.read(0.0)
    driver.stop()
    chunk = driver.read(0.0)
    assert first.flags == ("overflow",)
    assert chunk.flags == ("overflow",)
    assert chunk.tags.lost == ((10, 80),)


def test_settings_and_an_unplugged_tagger(fake):
    driver = SwabianTagger.from_url("swabian://10.0.0.5:41101")
    driver.connect()
    assert driver.set_trigger_level_v(1, -0.25) == -0.25
    with pytest.raises(SettingError, match="trigger level = 3 V"):
        driver.set_trigger_level_v(1, 3.0)
    assert driver.snapshot()["trigger_level_v_1"] == -0.25
    driver.start()
    fake.gone = True
    with pytest.raises(TransportClosed, match="device removed"):
        driver.read(0.0)
    with pytest.raises(TransportClosed, match="no Time Tagger attached"):
        driver.reconnect()
    assert fake.freed == 1
    fake.gone = False
    driver.reconnect()
    assert driver.epoch == 2
    with pytest.raises(DeviceError, match="numbers with commas"):
        SwabianTagger(swabian.LibraryTransport(""), channels="a,b")
