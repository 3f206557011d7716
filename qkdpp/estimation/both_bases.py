"""Unbiased bases: both give key and each tests the other.

Two lengths at half the secrecy each, for two keys amplified with two seeds.
The key of one basis is secret even if all bits of the other are known, so the
two together are as far from ideal as the sum. Correction must keep the bases
in separate frames: a parity over both would have to be charged to both.
"""

from __future__ import annotations

from dataclasses import replace

from qkdpp.estimation.bb84 import key_length_bb84
from qkdpp.estimation.bbm92 import Form, key_length_bbm92
from qkdpp.estimation.counts import Counts
from qkdpp.estimation.mismatch import Efficiencies
from qkdpp.estimation.security import KeyLength, Security

_OTHER = str.maketrans("ZX", "XZ")
BitsByBasis = tuple[int, int]
"""Numbers of bits for the key of basis Z and of basis X."""


def key_lengths_bb84_both(
    counts: Counts,
    *,
    leak_bits: BitsByBasis,
    verification_bits: BitsByBasis,
    dropped_bits: BitsByBasis,
    security: Security,
    receivers: tuple[Efficiencies, ...] = (),
    foresee: bool = True,
) -> tuple[KeyLength, KeyLength]:
    """Lengths of the keys of basis Z and of basis X; errors of both bases must be known. Add ``secret_bits``.

    Names in the split call the keyed basis Z, as in a single length; efficiencies are those of Z0, Z1, X0, X1.
    ``foresee``: as in a single length.
    """
    half = replace(security, eps_sec=security.eps_sec / 2)
    lengths = [
        key_length_bb84(
            (counts, counts.swapped())[b],
            leak_bits=leak_bits[b],
            verification_bits=verification_bits[b],
            dropped_bits=dropped_bits[b],
            security=half,
            receivers=receivers if b == 0 else tuple(receiver.swapped() for receiver in receivers),
            foresee=foresee,
        )
        for b in (0, 1)
    ]
    renamed = tuple(replace(bound, name=bound.name.translate(_OTHER)) for bound in lengths[1].bounds)
    return lengths[0], replace(lengths[1], bounds=renamed)


def key_lengths_bbm92_both(
    n: BitsByBasis,
    errors: BitsByBasis,
    *,
    leak_bits: BitsByBasis,
    verification_bits: BitsByBasis,
    dropped_bits: BitsByBasis,
    security: Security,
    form: Form = "tight",
    receivers: tuple[Efficiencies, ...] = (),
    foresee: bool = True,
) -> tuple[KeyLength, KeyLength]:
    """The same for entangled pairs: ``n`` pairs and ``errors`` by basis, the errors as correction counted them."""
    half = replace(security, eps_sec=security.eps_sec / 2)
    z, x = (
        key_length_bbm92(
            n[b],
            n[1 - b],
            errors[1 - b],
            leak_bits=leak_bits[b],
            verification_bits=verification_bits[b],
            dropped_bits=dropped_bits[b],
            security=half,
            form=form,
            receivers=receivers if b == 0 else tuple(receiver.swapped() for receiver in receivers),
            foresee=foresee,
        )
        for b in (0, 1)
    )
    return z, x
