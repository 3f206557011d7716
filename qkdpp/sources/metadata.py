"""Metadata of our own containers: a JSON object of texts and numbers."""

from __future__ import annotations

import json
from pathlib import Path

from qkdpp.core.errors import FormatError
from qkdpp.sources.batches import Metadata

MAX_META = 1 << 20


def parse_meta(path: Path, text: object) -> Metadata:
    """Metadata from JSON: an object of texts and numbers; anything deeper is kept as its JSON text."""
    if not isinstance(text, str) or len(text) > MAX_META:
        raise FormatError(f"{path}: meta is not a JSON text of at most {MAX_META} bytes")
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: meta is not JSON ({error})") from None
    if not isinstance(loaded, dict):
        raise FormatError(f"{path}: meta is not a JSON object")
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in loaded.items()}
