"""Scenarios of links: their model, the shipped files, and what the closed forms expect of them.

Used by the simulator and by the rate calculator; each number of a shipped file names its source.
"""
