"""Number crunching: arrays in, arrays out; no files, no messages.

Each kernel is a module named after it; where there is a Numba tier it lies in
``<name>_numba.py`` and is imported at its first use only. The C tier lies in
``csrc/`` and is called through :mod:`qkdpp.kernels.compiled`. A table of all,
with the forms they have: ``docs/kernels.md``.

The hashes, the codec and the bit tools are functions of this package. The other
kernels are the modules :mod:`~qkdpp.kernels.tags` (time tags) and
:mod:`~qkdpp.kernels.hamming` (the Hamming engine), and :class:`CascadeEngine`.
"""

from qkdpp.kernels import hamming, tags
from qkdpp.kernels.backend import Backend, available, backend, isa, loops, use_backend
from qkdpp.kernels.bits import gather_bits, hamming_distance, pack_bits, transpose_bits, unpack_bits
from qkdpp.kernels.cascade_engine import CascadeEngine
from qkdpp.kernels.codec import decode_bits, decode_slots, encode_bits, encode_slots
from qkdpp.kernels.polyhash import PolyHasher, PolyState, poly_hash, poly_hash_many
from qkdpp.kernels.toeplitz import modified_seed_bits, toeplitz_hash, toeplitz_hash_modified

__all__ = [
    "Backend",
    "CascadeEngine",
    "PolyHasher",
    "PolyState",
    "available",
    "backend",
    "decode_bits",
    "decode_slots",
    "encode_bits",
    "encode_slots",
    "gather_bits",
    "hamming",
    "hamming_distance",
    "isa",
    "loops",
    "modified_seed_bits",
    "pack_bits",
    "poly_hash",
    "poly_hash_many",
    "tags",
    "toeplitz_hash",
    "toeplitz_hash_modified",
    "transpose_bits",
    "unpack_bits",
    "use_backend",
]
