"""Error correction of sifted keys: cascade and hamming behind one interface."""
