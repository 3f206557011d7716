"""What can go wrong between a host and an instrument; every message names the device, the field and the remedy."""

from __future__ import annotations

from qkdpp.core.errors import DeviceError

SHOWN_BYTES = 120


class TransportTimeout(DeviceError):  # noqa: N818 - says what it is
    """No answer in time. What arrives later belongs to nobody: drain before the next query."""


class TransportClosed(DeviceError):  # noqa: N818
    """The connection is gone (cut, unplugged, closed by the peer) or was never there."""


class ReplyError(DeviceError):
    """The instrument answered something that cannot be read.

    Attributes:
        raw: the bytes as received.
    """

    def __init__(self, device: str, field: str, raw: bytes) -> None:
        shown = raw[:SHOWN_BYTES]
        cut = f" and {len(raw) - len(shown)} bytes more" if len(raw) > len(shown) else ""
        super().__init__(f"{device}: {field}: cannot read the reply {shown!r}{cut}; is this the right instrument?")
        self.raw = raw


class InstrumentError(DeviceError):
    """An error that the instrument itself reports.

    Attributes:
        code: its number (0 where it has none).
        text: its words.
    """

    def __init__(self, device: str, code: int, text: str) -> None:
        super().__init__(f"{device}: the instrument reports {code}, {text!r}")
        self.code, self.text = code, text


class IdentityError(DeviceError):
    """Something else answers at this address."""


class SettingError(DeviceError):
    """A value outside its range, or one that the instrument did not take over."""
