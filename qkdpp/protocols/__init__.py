"""The order of the stages for each party."""
