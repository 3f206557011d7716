"""JSON objects cut out of a byte stream that has no terminators.

Objects may be glued together, split anywhere, and separated by white space or the byte 0x17. Sans-IO.
"""

from __future__ import annotations

import json
from typing import Any

LONGEST_BYTES = 1 << 22
_BETWEEN = b" \t\r\n\x17"
_QUOTE, _ESCAPE, _OPEN, _CLOSE = b'"\\{}'


class NotJsonError(ValueError):
    """Bytes that are no JSON object.

    Attributes:
        raw: those bytes; the splitter has dropped them with everything before the next 0x17.
    """

    def __init__(self, raw: bytes) -> None:
        super().__init__("not a JSON object")
        self.raw = raw


class JsonSplitter:
    """Collects bytes and gives whole objects."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = self._depth = 0
        self._in_text = self._escaped = False

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        self._data += data

    def take(self) -> dict[str, Any] | None:
        """The next whole object, or None while it is incomplete.

        Raises:
            NotJsonError: something else stands where an object should begin, or an object never ends. The splitter
                goes on behind it.
        """
        if self._depth == 0:
            self._skip_separators()
        end = self._end_of_object()
        if end is None:
            if len(self._data) > LONGEST_BYTES:
                raise self._dropped()
            return None
        text = bytes(self._data[:end])
        try:
            found = json.loads(text)
        except ValueError:
            raise self._dropped() from None
        del self._data[:end]
        self._at = 0
        assert isinstance(found, dict)
        return found

    def _skip_separators(self) -> None:
        kept = self._data.lstrip(_BETWEEN)
        self._data = bytearray(kept)
        self._at = 0
        if kept and kept[0] != _OPEN:
            raise self._dropped()

    def _end_of_object(self) -> int | None:
        while self._at < len(self._data):
            byte = self._data[self._at]
            self._at += 1
            if self._in_text:
                self._in_text = self._escaped or byte != _QUOTE
                self._escaped = not self._escaped and byte == _ESCAPE
            elif byte == _QUOTE:
                self._in_text = True
            elif byte == _OPEN:
                self._depth += 1
            elif byte == _CLOSE:
                self._depth -= 1
                if self._depth == 0:
                    return self._at
        return None

    def _dropped(self) -> NotJsonError:
        """Forget everything up to the next group end (or all there is)."""
        cut = self._data.find(b"\x17")
        cut = len(self._data) if cut < 0 else cut + 1
        raw = bytes(self._data[:cut])
        del self._data[:cut]
        self._at = self._depth = 0
        self._in_text = self._escaped = False
        return NotJsonError(raw)
