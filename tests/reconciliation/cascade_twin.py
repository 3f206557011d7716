"""Cascade played with both keys on the table: slow, from the rules of docs/notes/cascade.md, sharing no state machine.

Knows the true error pattern, so that every parity is a sum over positions and nothing needs to be tracked.
"""

import math
from itertools import pairwise

import numpy as np

from qkdpp.core.entropy import expand

BLOCK_1, BLOCK_2, BLOCKS_3, MASKS = 1.2, 2.7, 8, 10
SHORT_1, SHORT_2, SHORT_ALL = 0.05, 0.16, 0.045
LATE, LAST = 66, 250


def order(seed, label, n):
    words = np.frombuffer(expand(seed, label, 4 * n), dtype="<u4")
    return sorted(range(n), key=lambda i: (int(words[i]), i))


def share(rate, length):
    return (1 - (1 - 2 * rate) ** length) / 2


def estimate(odd, blocks, length, expected, sigmas, trusted):
    weight, found = blocks, odd / blocks
    if abs(odd - blocks * share(expected, length)) <= sigmas * math.sqrt(blocks) / 2:
        weight = blocks + trusted
        found = (odd + trusted * share(expected, length)) / weight
    if found >= 0.5 - 1 / math.sqrt(weight):
        return None
    return -math.log(1 - 2 * max(found, 0.5 / weight)) / 2 / length


def half(n):
    return 1 << ((n - 1).bit_length() - 1)


class Frame:
    def __init__(self, alice, errors, seed, number, frame_bits):
        self.n = n = len(alice)
        self.shuffle = order(seed, f"cascade {number} {n} pass 0", n)
        self.alice = [alice[i] for i in self.shuffle]
        self.left = {j for j, i in enumerate(self.shuffle) if errors[i]}
        self.found = set()
        strided = sorted(range(n), key=lambda i: (i % 64, i))
        self.lists = [list(range(n)), order(seed, f"cascade {number} {n} pass 1", n), strided]
        width = 8 * -(-frame_bits // 64)
        self.masks = []
        for q in range(MASKS):
            data = expand(seed, f"cascade {number} mask {q}", width)
            self.masks.append({i for i in range(n) if data[i >> 3] >> (i & 7) & 1})
        self.cuts = []  # per open pass, where nodes begin, and n at the end
        self.known = set()
        self.current = 0
        self.asked = False
        self.search = None
        self.cutting = True
        self.rate = None

    def positions(self, entry):
        code, lo, hi = entry
        if code == "bit":
            return hi
        if code < 3:
            return self.lists[code][lo:hi]
        return [i for i in range(lo, hi) if i in self.masks[code - 3]]

    def parity(self, entry):
        return len(self.left.intersection(self.positions(entry))) & 1

    def unknown(self, entry):
        return any(i not in self.known for i in self.positions(entry))

    def odd_nodes(self, p):
        cuts = self.cuts[p]
        return [(lo, hi) for lo, hi in pairwise(cuts) if self.parity((p, lo, hi))]

    def odd_total(self):
        return sum(len(self.odd_nodes(p)) for p in range(len(self.cuts)))

    def odd_masks(self):
        return [q for q in range(MASKS) if self.asked and self.parity((3 + q, 0, self.n))]

    def finished(self):
        return self.asked and not self.odd_total() and not self.odd_masks() and self.search is None

    # --- what a round asks for: entries (code, lo, hi) whose parities are sent, cuts made on the way

    def cut(self, p, at):
        if at not in self.cuts[p]:
            self.cuts[p] = sorted([*self.cuts[p], at])

    def short(self, p, odd, every):
        short = (SHORT_1 if len(self.cuts) == 1 else SHORT_2) / self.rate
        if len(self.cuts) > 1:
            short = max(short, SHORT_ALL * self.n / (odd * math.sqrt(odd)))
        return min(max(int(short), 2), 64 if p == 2 and every > 16 else 1024)

    def search_node(self, p, lo, hi, short):
        """A half, as (p, lo, mid), or the bits of an address, as one set of positions each."""
        while hi - lo > short:
            mid = lo + half(hi - lo)
            if self.unknown((p, lo, mid)) and self.unknown((p, mid, hi)):
                return [(p, lo, mid)]
            self.cut(p, mid)
            lo, hi = (lo, mid) if self.unknown((p, lo, mid)) else (mid, hi)
        open_places = [i for i in range(hi - lo) if self.lists[p][lo + i] not in self.known]
        entries, address = [], 0
        for b in range((hi - lo - 1).bit_length()):
            if len({i >> b & 1 for i in open_places}) == 2:
                entries.append(("bit", b, [self.lists[p][lo + i] for i in range(hi - lo) if i >> b & 1]))
            elif open_places and open_places[0] >> b & 1:
                address |= 1 << b
        return [*entries, ("address", (p, lo, hi, address), 0)]

    def search_mask(self):
        if self.search is None:
            self.search = [self.odd_masks()[0], 0, self.n]
        q, lo, hi = self.search
        while hi - lo > 1:
            mid = lo + half(hi - lo)
            if not self.unknown((3 + q, lo, mid)):
                lo = mid
            elif not self.unknown((3 + q, mid, hi)):
                hi = mid
            else:
                self.search = [q, lo, hi]
                entries = [(3 + q, lo, mid)]
                for a, b in (lo, mid), (mid, hi):
                    if b - a > 1:
                        entries.append((3 + q, a, a + half(b - a)))
                return entries
        self.search = [q, lo, hi]
        return []

    def open_pass(self, blocks):
        """``blocks``: lengths, the last one cut short or repeated as needed."""
        p, lo, cuts = len(self.cuts), 0, [0]
        for length in blocks:
            lo = min(self.n, lo + length)
            cuts.append(lo)
            if lo == self.n:
                break
        while lo < self.n:
            lo = min(self.n, lo + blocks[-1])
            cuts.append(lo)
        self.cuts.append(cuts)
        self.current = p if p < 2 else self.current
        entries = [(p, a, b) for a, b in pairwise(cuts)]
        if p:
            entries = [e for e in entries[:-1] if self.unknown(e)] + [("last", entries[-1][:2], 0)]
        if p == 2:
            entries += [(3 + q, 0, self.n) for q in range(MASKS) if self.unknown((3 + q, 0, self.n))]
        return entries

    def plan(self, wish):
        kind, blocks = wish
        if kind == "halve":
            return [
                (0, lo, lo + blocks[1] // 2)
                for lo in range(0, blocks[0] * blocks[1], blocks[1])
                if lo + blocks[1] // 2 < self.n
            ]
        entries = []
        odd = [self.odd_nodes(p) for p in range(len(self.cuts))]
        odd += [[]] * (3 - len(odd))
        if len(odd[1 - self.current]) > 8 * len(odd[self.current]):
            self.current = 1 - self.current
        for p in (self.current, 2):
            for lo, hi in odd[p]:
                entries += self.search_node(p, lo, hi, self.short(p, len(odd[p]), sum(map(len, odd))))
        if not any(odd) and kind == "search":
            entries += self.search_mask()
        if kind == "open":
            entries += self.open_pass(blocks)
        return entries

    # --- what the answers tell

    def absorb(self, entries, parities):
        """First what is certain, then, entry by entry, the errors."""
        answers, bits, addresses = iter(parities), 0, {}
        for e, (code, lo, mid) in enumerate(entries):
            if code == "bit":
                bits |= next(answers) << lo
            elif code == "address":
                addresses[e], bits = bits | lo[3], 0
                self.cut(lo[0], lo[1] + half(lo[2] - lo[1]) if lo[2] - lo[1] > 1 else lo[1])
            elif code != "last":
                parity = next(answers)
                if code < 3:
                    self.cut(code, mid)
                elif self.asked and self.search and lo == self.search[1] and mid < self.search[2]:
                    self.search[1 + parity] = mid
        self.asked = len(self.cuts) == 3
        for e, (code, lo, mid) in enumerate(entries):
            if code == "address":
                self.settle_address(*lo[:3], addresses[e])
            elif code == "last":
                self.settle_single(*lo)
            elif code in {0, 1, 2}:
                self.settle_single(code, lo)
                self.settle_single(code, mid)
        if self.search and self.search[2] - self.search[1] == 1:
            self.known.add(self.search[1])
            self.flip(self.search[1])
            self.search = None

    def settle_single(self, p, lo):
        """A node of one place is known."""
        if lo < self.n and lo in self.cuts[p] and lo + 1 in self.cuts[p]:
            position = self.lists[p][lo]
            self.known.add(position)
            if position in self.left:
                self.flip(position)

    def settle_address(self, p, lo, hi, address):
        """The error of a node, if it is the only one; a wrong one is one error more."""
        if hi - lo > 1:
            self.settle_single(p, lo)
            self.settle_single(p, lo + half(hi - lo))
        places = self.lists[p][lo:hi]
        if address >= len(places) or places[address] in self.known:
            return
        first = max(c for c in self.cuts[p] if c <= lo + address)
        end = min(c for c in self.cuts[p] if c > lo + address)
        if self.parity((p, first, end)):
            self.flip(places[address])

    def flip(self, position):
        self.left ^= {position}
        self.found ^= {position}
        if self.search:
            q, lo, hi = self.search
            if position in self.masks[q] and lo <= position < hi:
                self.search = None


def first_block(rate, n):
    block = 1
    while block * rate < BLOCK_1 and block < n:
        block *= 2
    return block


def cut_first(frames, blocks, hint, cycle, wishes):
    cutting = [f for f, frame in enumerate(frames) if frame.cutting]
    if not cutting:
        return hint
    if cycle == 0:
        for f in cutting:
            wishes[f] = ("open", [blocks[f][0]])
        return hint
    longest = max(blocks[f][0] for f in cutting)
    pool = [f for f in cutting if blocks[f][0] == longest]
    odd = {f: len(frames[f].odd_nodes(0)) for f in cutting}
    counted = sum(blocks[f][1] for f in pool)
    rate = estimate(sum(odd[f] for f in pool), counted, longest, hint, 2, 2048)
    hint = rate if rate is not None else hint
    for f in cutting:
        length, count = blocks[f]
        own = None if f in pool and rate is None else estimate(odd[f], count, length, hint, 4, min(16384, counted))
        frames[f].rate = BLOCK_1 / length if own is None else own
        wanted = 2 * count if own is None else math.ceil(frames[f].n * own / BLOCK_1)
        if length > 1 and wanted >= 2 * count:
            blocks[f] = (length // 2, -(-frames[f].n // (length // 2)))
            wishes[f] = ("halve", (count, length))
        else:
            frames[f].cutting = False
            if length > 1 and wanted > count:
                wishes[f] = ("halve", (wanted - count, length))
            else:
                wishes[f] = ("search", None)
    return hint


def second(rate, n):
    mean = min(BLOCK_2 / rate, max(1.0, n / 2))
    block = 1 << int(math.log2(mean))
    return [2 * block] * int(2 * (1 - block / mean) * n / (2 * block)) + [block]


def play(alice, bob, seed, qber_ppm, frame_bits, number=0):
    """The rounds of one batch as (parities, flags); the pattern believed; the suspect frames."""
    starts = range(0, len(alice), frame_bits)
    errors = [a ^ b for a, b in zip(alice, bob, strict=True)]
    frames = [Frame(alice[s : s + frame_bits], errors[s : s + frame_bits], seed, number, frame_bits) for s in starts]
    hint = qber_ppm / 1e6
    lengths = [first_block(hint, frame.n) for frame in frames]
    blocks = [(length, -(-frame.n // length)) for frame, length in zip(frames, lengths, strict=True)]
    rounds, cycle = [], 0
    told = 0
    while cycle < LAST:
        wishes = [("idle", None) if frame.finished() else ("search", None) for frame in frames]
        hint = cut_first(frames, blocks, hint, cycle, wishes)
        for f, frame in enumerate(frames):
            opened, odd = len(frame.cuts), frame.odd_total()
            if wishes[f][0] == "search" and opened < 3 and (odd == 0 or (cycle >= LATE and opened == 2)):
                third = [-(-frame.n // BLOCKS_3)]
                wishes[f] = ("open", third if opened == 2 else second(frame.rate, frame.n))
        if all(kind == "idle" for kind, _ in wishes):
            break
        plans = [[] if wish[0] == "idle" else frame.plan(wish) for frame, wish in zip(frames, wishes, strict=True)]
        cycle += 1
        questions = [[entry for entry in plan if entry[0] not in {"address", "last"}] for plan in plans]
        if told >= len(alice) + 64 and any(questions):
            break
        parities, flags = [], []
        for frame, plan, asked in zip(frames, plans, questions, strict=True):
            answers = [frame.parity(entry) for entry in asked]
            for entry, flag in zip(asked, answers, strict=True):
                parities.append(sum(frame.alice[i] for i in frame.positions(entry)) & 1)
                flags.append(flag)
            frame.absorb(plan, answers)
        told += len(parities)
        if parities:
            rounds.append((parities, flags))
    pattern = [0] * len(alice)
    for s, frame in zip(starts, frames, strict=True):
        for j in frame.found:
            pattern[s + frame.shuffle[j]] = 1
    return rounds, pattern, [f for f, frame in enumerate(frames) if not frame.finished()]
