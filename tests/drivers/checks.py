"""What every driver must do on any instrument, simulated or real; no setting of an optical device is changed."""

import json

import numpy as np

from qkdpp.core.devices import FLAGS
from qkdpp_drivers import registry


def check_connection(name, url):
    """Identity, snapshot, empty error queue, a new epoch after reconnecting."""
    driver = registry.instrument(name, url)
    assert driver.epoch == 0
    with driver:
        assert driver.epoch == 1
        identity = driver.identify()
        assert driver.accepts(identity)
        assert identity.model
        first = driver.snapshot()
        assert first
        json.dumps(first)
        assert driver.errors() == []
        assert driver.reconnect().model == identity.model
        assert driver.epoch == 2
        assert driver.snapshot().keys() == first.keys()
    assert not driver.transport.is_open


def check_stream(name, url, *, duration_s=2.0):
    """A stream: ticks in order over all chunks, declared flags only, and the length that the host's clock says."""
    with registry.instrument(name, url) as driver:
        driver.start()
        began_s = driver.transport.now()
        chunks = []
        while driver.transport.now() < began_s + duration_s:
            chunks.append(driver.read(0.2))
        assert "clean" in driver.status()
        driver.stop()
        chunks.append(driver.read(0.0))
        elapsed_s = driver.transport.now() - began_s
    ticks = np.concatenate([chunk.tags.ticks for chunk in chunks])
    assert (np.diff(ticks) >= 0).all()
    assert {flag for chunk in chunks for flag in chunk.flags} <= set(FLAGS)
    assert all(start <= end for chunk in chunks for start, end in chunk.tags.lost)
    assert len({(chunk.tags.tick_as, chunk.tags.channel_ids) for chunk in chunks}) == 1
    span_s = (int(ticks[-1]) - int(ticks[0])) * chunks[0].tags.tick_as / 1e18
    assert duration_s / 4 < span_s < elapsed_s + 1.0
