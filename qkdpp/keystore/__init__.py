"""Keys at rest: stored so that no bit is ever used twice, whatever crashes, repeats or is put back.

``blocks`` (states of a block) and ``streams`` (cursors) are filled by the live
node, ``keys`` (reserved, held, delivered) and ``hello`` (counters of both ends)
serve delivery, ``chunks`` (indices) its streams; ``store`` and ``link`` are the
faces of all. ``docs/formats/keystore.md``.
"""

from qkdpp.keystore.errors import (
    KeysNotFoundError,
    LinkClosedError,
    NotEnoughKeyError,
    NotMetError,
    NotNamedError,
    ReservationRefusedError,
    StoreError,
    StreamInUseError,
    StreamUnknownError,
    TooManyStreamsError,
)
from qkdpp.keystore.link import Link
from qkdpp.keystore.store import KeyStore
from qkdpp.keystore.values import (
    DESTINATION,
    SOURCE,
    Hello,
    Key,
    Limits,
    LinkStatus,
    Meeting,
    Part,
    Piece,
    Reservation,
    StreamState,
    Terms,
)
from qkdpp.keystore.wrapping import FileWrapping, TokenWrapping, Wrapping, create_kek, wrapping_of

__all__ = [
    "DESTINATION",
    "SOURCE",
    "FileWrapping",
    "Hello",
    "Key",
    "KeyStore",
    "KeysNotFoundError",
    "Limits",
    "Link",
    "LinkClosedError",
    "LinkStatus",
    "Meeting",
    "NotEnoughKeyError",
    "NotMetError",
    "NotNamedError",
    "Part",
    "Piece",
    "Reservation",
    "ReservationRefusedError",
    "StoreError",
    "StreamInUseError",
    "StreamState",
    "StreamUnknownError",
    "Terms",
    "TokenWrapping",
    "TooManyStreamsError",
    "Wrapping",
    "create_kek",
    "wrapping_of",
]
