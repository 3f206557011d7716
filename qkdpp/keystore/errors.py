"""Why the key store did not do what it was asked. Every message is free of key material."""

from qkdpp.core.errors import QkdppError


class StoreError(QkdppError):
    """Base of what a key store refuses; nothing was consumed unless the class says otherwise."""


class NotEnoughKeyError(StoreError):
    """The own stream does not hold so many bytes; nothing was taken."""


class KeysNotFoundError(StoreError):
    """One key or more is unknown here, expired, voided or already delivered; none was delivered."""


class NotNamedError(StoreError):
    """The caller was not named for one key or more when they were reserved; none was delivered."""


class NotMetError(StoreError):
    """The counters of this opening have not been exchanged with the peer yet."""


class LinkClosedError(StoreError):
    """One of the two stores was put back from a copy, or exchanged: the link stays closed until it is paired anew."""


class StreamInUseError(StoreError):
    """A stream of this identifier exists, between others or on other terms, or is over."""


class TooManyStreamsError(StoreError):
    """The application has too many open streams; it must close one."""


class StreamUnknownError(StoreError):
    """No such stream, or it is closed at this end."""


class ReservationRefusedError(StoreError):
    """What the peer reserved cannot be accepted; the peer must burn it."""
