"""Whatever decodes T2 records gives the tags of the NumPy decoder, whatever the words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.core.errors import FormatError
from qkdpp.kernels import available
from qkdpp.kernels.backend import Backend
from qkdpp.sources.picoquant_records import LAYOUTS, Decoder

T2 = [code for code, layout in LAYOUTS.items() if not layout.t3]
TIERS = available()
PHOTON = st.builds(lambda channel, time: channel << 25 | time, st.integers(0, 63), st.integers(0, 2**25 - 1))
SPECIAL = st.builds(
    lambda field, time: 1 << 31 | field << 25 | time,
    st.sampled_from([0, 1, 2, 4, 8, 63]),
    st.sampled_from([0, 1, 5, 2**25 - 1]),
)
ANY = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("code", T2)
@settings(max_examples=40, deadline=None)
@given(blocks=st.lists(st.lists(st.one_of(PHOTON, SPECIAL), max_size=20) | st.lists(ANY, max_size=5), max_size=4))
def test_decoders_agree(code: int, tier: Backend, blocks: list[list[int]]) -> None:
    fast, plain = Decoder(LAYOUTS[code], "run", tier=tier), Decoder(LAYOUTS[code], "run")
    for block in blocks:
        words = np.array(block, dtype="<u4")
        a, b = fast.decode(words), plain.decode(words)
        np.testing.assert_array_equal(a.time, b.time)
        np.testing.assert_array_equal(a.ids, b.ids)
        assert (a.time.dtype, a.ids.dtype) == (b.time.dtype, b.ids.dtype)
    assert fast.invalid == plain.invalid


@pytest.mark.parametrize("tier", TIERS)
def test_times_beyond_63_bits_are_refused(tier: Backend) -> None:
    words = np.full(5000, 1 << 31 | 63 << 25 | (2**25 - 1), dtype="<u4")
    decoder = Decoder(LAYOUTS[0x00010207], "run.ptu", tier=tier)
    with pytest.raises(FormatError, match="63 bits"):
        decoder.decode(words)
