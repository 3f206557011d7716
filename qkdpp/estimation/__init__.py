"""How long the key may be: bounds from counts."""
