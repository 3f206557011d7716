"""Blanking of a receiver of pairs: after any click all its detectors are deaf for a while.

A detector that is dead while its neighbours are not makes the bit depend on
what clicked before. Clicks within the local window of an event belong to it
(double clicks); what follows within the dead time of any earlier click is left
out, whichever detector it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qkdpp.core.tags import TimeTags, ticks_from_ps


def blanked(
    tags: TimeTags, detector_of_channel: Mapping[int, int], *, dead_time_ns: float, window_ps: float
) -> TimeTags:
    """The tags less the detector clicks in the dead time of an earlier click; others (sync, markers) stay.

    A click is left out if another detector click lies more than ``window_ps`` and less than ``dead_time_ns`` before
    it, blanked itself or not. Delays between a party's detectors should be smaller than the dead time.
    """
    dead = ticks_from_ps(1000.0 * dead_time_ns, tags.tick_as)
    window = ticks_from_ps(window_ps, tags.tick_as)
    if dead <= window:
        return tags
    codes = [i for i, channel in enumerate(tags.channel_ids) if channel in detector_of_channel]
    is_click = np.isin(tags.channel, codes)
    clicks = tags.ticks[is_click]
    before = np.searchsorted(clicks, clicks - window, side="left") - 1
    deaf = (before >= 0) & (clicks - clicks[np.maximum(before, 0)] < dead)
    keep = np.ones(len(tags), dtype=np.bool_)
    keep[np.flatnonzero(is_click)[deaf]] = False
    return replace(tags, ticks=tags.ticks[keep], channel=tags.channel[keep])
