"""The live node: everything around the protocol core that knows time, instruments and connections."""
