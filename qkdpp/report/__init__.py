"""Reports for people: one self-contained page and a short text, both from the report's JSON."""
