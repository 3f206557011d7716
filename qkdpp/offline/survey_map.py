"""A proposed channel map, from who clicks with whom.

Assumes pairs that are strongly correlated in two bases and detectors of four states per party. Finds the two parties
(if one recording holds both), one delay per channel, the coincidences of every pair of detectors at those delays, and
which detectors form a basis. Which basis is the key basis, and which detector is bit 0, is a convention: the result is
a proposal to check against the optics, never more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.offline.survey_peaks import Delays, Peak

N_DETECTORS = 4
CLEARLY = 1.25
"""Ratio of coincidences from which on one basis is taken for the favoured one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelMap:
    """A proposal; all numbers are channel indices of the stream that was looked at.

    Attributes:
        alice, bob: channel of Z0, Z1, X0, X1.
        delay: ticks per channel (float64[c]; NaN for channels of neither party), mean zero for each party; a common
            offset of the parties is left out.
        coincidences: float64[4, 4] above background, rows Alice's detectors, columns Bob's, at those delays.
        rivals: peaks between the parties that lie elsewhere: echoes and after-pulses.
    """

    alice: tuple[int, ...]
    bob: tuple[int, ...]
    delay: NDArray[np.float64]
    coincidences: NDArray[np.float64]
    rivals: tuple[Peak, ...]

    def qber(self, basis: int) -> float:
        """Share of unlike bits among the coincidences of one basis (0 = Z, 1 = X)."""
        block = np.clip(self.coincidences[2 * basis : 2 * basis + 2, 2 * basis : 2 * basis + 2], 0.0, None)
        total = float(block.sum())
        return float(block[0, 1] + block[1, 0]) / total if total > 0 else 0.5


def propose(found: Delays, peaks: Sequence[Peak], parties: tuple[set[int], set[int]] | None) -> ChannelMap | None:
    """A channel map, or None unless four channels of either party are correlated with the other's.

    ``parties`` are the channels of either party where they are known (one recording each).
    """
    alice, bob = parties or split(peaks)
    across = [p for p in peaks if {p.first, p.second} & alice and {p.first, p.second} & bob]
    alice = {c for p in across for c in (p.first, p.second)} & alice
    bob = {c for p in across for c in (p.first, p.second)} & bob
    if len(alice) != N_DETECTORS or len(bob) != N_DETECTORS:
        return None
    delay, used = _fit(across, found.counts.shape[0])
    width = float(np.median([p.width for p in used])) if used else 0.0
    if np.isnan(delay[sorted(alice | bob)]).any():
        return None
    matrix = {
        (a, b): max(found.between(a, b, delay[b] - delay[a], width), 0.0) for a, b in itertools.product(alice, bob)
    }
    alice_order, bob_order = _bases(sorted(alice), sorted(bob), matrix)
    for side in (alice_order, bob_order):
        delay[list(side)] -= delay[list(side)].mean()
    return ChannelMap(
        alice=alice_order,
        bob=bob_order,
        delay=delay,
        coincidences=np.array([[matrix[a, b] for b in bob_order] for a in alice_order]),
        rivals=tuple(p for p in across if p not in used),
    )


def split(peaks: Sequence[Peak]) -> tuple[set[int], set[int]]:
    """The division of the channels into two parties with most coincidences across; the lowest channel is Alice's."""
    channels = sorted({c for p in peaks for c in (p.first, p.second)})
    if len(channels) < 2:
        return set(channels), set()
    place = {c: i for i, c in enumerate(channels)}
    codes = np.arange(1 << (len(channels) - 1), dtype=np.int64) << 1
    across = np.zeros(codes.size)
    for p in peaks:
        unlike = ((codes >> place[p.first]) ^ (codes >> place[p.second])) & 1
        across += unlike * p.coincidences
    best = int(codes[int(np.argmax(across))])
    bob = {c for c, i in place.items() if best >> i & 1}
    return set(channels) - bob, bob


def _fit(across: Sequence[Peak], n_channels: int) -> tuple[NDArray[np.float64], list[Peak]]:
    """One delay per channel from the delays of the pairs, and the pairs that agree with it.

    The sharpest peaks that connect all channels give a first answer; the pairs within a peak width of it are then
    fitted by least squares. An echo that outshines its main peak is left out this way.
    """
    delay = _along_tree(across, n_channels)
    used = [p for p in across if abs(delay[p.second] - delay[p.first] - p.delay) <= max(2 * p.width, 2.0)]
    if used:
        rows = np.zeros((len(used), n_channels))
        for row, p in zip(rows, used, strict=True):
            row[p.second], row[p.first] = 1.0, -1.0
        weight = np.sqrt([p.coincidences for p in used])[:, None]
        target = np.array([[p.delay] for p in used])
        solution = np.linalg.lstsq(rows * weight, target * weight, rcond=None)[0][:, 0]
        delay = np.where(np.isnan(delay), np.nan, solution)
    return delay, used


def _along_tree(across: Sequence[Peak], n_channels: int) -> NDArray[np.float64]:
    """Delays along the spanning tree of the most significant peaks; NaN for channels that it does not reach."""
    delay = np.full(n_channels, np.nan)
    group = {c: c for p in across for c in (p.first, p.second)}
    delay[list(group)] = 0.0
    for p in sorted(across, key=lambda p: -p.significance):
        keep, move = group[p.first], group[p.second]
        if keep == move:
            continue
        shift = delay[p.first] + p.delay - delay[p.second]
        for c in [c for c, g in group.items() if g == move]:
            delay[c] += shift
            group[c] = keep
    if group:
        largest = max(group.values(), key=lambda g: sum(v == g for v in group.values()))
        delay[[c for c, g in group.items() if g != largest]] = np.nan
    return delay


def _bases(
    alice: list[int], bob: list[int], matrix: dict[tuple[int, int], float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels in the order Z0, Z1, X0, X1: two pairs of either party, each pair as unlike its partner as possible.

    Z is the basis with clearly more coincidences, otherwise that of Alice's lowest channel. Bit 0 of Alice is her lower
    channel of a basis, Bob's bits follow hers.
    """

    def contrast(a: tuple[int, int], b: tuple[int, int]) -> float:
        return matrix[a[0], b[0]] + matrix[a[1], b[1]] - matrix[a[0], b[1]] - matrix[a[1], b[0]]

    best: tuple[float, tuple[int, ...], tuple[int, ...]] = (-1.0, tuple(alice), tuple(bob))
    for a1, a2, b1, b2 in _divisions(alice, bob):
        first, second = contrast(a1, b1), contrast(a2, b2)
        score = abs(first) + abs(second)
        if score > best[0]:
            one = (a1, b1 if first >= 0 else b1[::-1])
            two = (a2, b2 if second >= 0 else b2[::-1])
            light = [sum(matrix[i, j] for i, j in itertools.product(*pair)) for pair in (one, two)]
            z, x = (two, one) if light[1] > CLEARLY * light[0] else (one, two)
            best = (score, z[0] + x[0], z[1] + x[1])
    return best[1], best[2]


def _divisions(
    alice: list[int], bob: list[int]
) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """All ways to divide four channels of either party into two pairs, and to match the pairs."""
    result = []
    for i, j in itertools.product(range(1, N_DETECTORS), repeat=2):
        a1 = (alice[0], alice[i])
        a2 = tuple(c for c in alice if c not in a1)
        b1 = (bob[0], bob[j])
        b2 = tuple(c for c in bob if c not in b1)
        result.append((a1, (a2[0], a2[1]), b1, (b2[0], b2[1])))
        result.append((a1, (a2[0], a2[1]), (b2[0], b2[1]), b1))
    return result
