"""Number crunching: arrays in, arrays out; no files, no messages."""
