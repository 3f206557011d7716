"""From announced slots and bases to sifted bits and counts."""
