"""JSON bodies of streams, with the names of ETSI GS QKD 004 V2.1.1, and its QoS judged.

The standard has functions and no wire format; this one is ours. A request is
judged without a network or a store; nothing here prints a key.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qkdpp.delivery.bodies import Count, KeyId, Limits, Positive
from qkdpp.delivery.requests import BAD_REQUEST, UNAVAILABLE, Refusal
from qkdpp.delivery.streams import Code

NOT_FOUND: Final = 404
MIMETYPE: Final = "application/json"
LEAST_TIMEOUT_MS: Final = 100
MOST_TIMEOUT_MS: Final = 60_000
STOCK_S: Final = 10
"""``Min_bps`` is granted if the stock lasts for so long at this rate; nothing is set aside."""
Mimetype = Annotated[str, msgspec.Meta(max_length=100)]
Sae = Annotated[str, msgspec.Meta(min_length=1)]
Status = Annotated[int, msgspec.Meta(ge=0, le=8)]
Bounded = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Every reader of JSON can tell these integers apart."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """QoS. Of ``Jitter`` and ``Priority`` nothing is promised; they are returned as they came.

    ``Key_chunk_size`` in bytes, ``Timeout`` in ms, ``TTL`` in s; rates in bit/s, 0 for any.
    """

    Key_chunk_size: Bounded | msgspec.UnsetType = msgspec.UNSET
    Max_bps: Bounded = 0
    Min_bps: Bounded = 0
    Jitter: Bounded = 0
    Priority: Bounded = 0
    Timeout: Bounded = 1000
    TTL: Bounded | msgspec.UnsetType = msgspec.UNSET
    Metadata_mimetype: Mimetype = ""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """QoS that holds, or that could be met."""

    Key_chunk_size: Positive
    Max_bps: Count
    Min_bps: Count
    Jitter: Count
    Priority: Count
    Timeout: Positive
    TTL: Positive
    Metadata_mimetype: str


class OpenConnect(msgspec.Struct, frozen=True, kw_only=True):
    """Body of OPEN_CONNECT; ``QoS`` None: as agreed, or the default."""

    source: Sae
    destination: Sae
    QoS: Quality | None = None
    key_stream_ID: KeyId | None = None  # noqa: N815 - the standard's names


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of OPEN_CONNECT: 0, or 1 while the other application has not opened the stream."""

    status: Status
    key_stream_ID: str  # noqa: N815
    QoS: Granted


class GetKey(msgspec.Struct, frozen=True, kw_only=True):
    """Body of GET_KEY; without ``index`` the lowest one that is there. ``metadata_size``: most bytes of metadata."""

    index: Bounded | None = None
    metadata_size: Bounded | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of GET_KEY; ``key_buffer`` is written as base64 with padding, ``metadata`` is JSON text or empty."""

    status: Status
    index: Count
    key_buffer: bytes
    metadata: str

    def __repr__(self) -> str:
        return f"Chunk({self.index})"


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """Body of CLOSE: an object without members that count, or none."""


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of CLOSE."""

    status: Status


class StreamFault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of the refusals that have a status of ETSI GS QKD 004; ``QoS`` (7): what could be met."""

    message: str
    status: Status
    QoS: Granted | None = None


class StreamRefusal(Refusal):
    """An answer with a status."""

    def __init__(
        self, code: int, status: Code, message: str, *, offer: Granted | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(code, message, retry_after_s=retry_after_s)
        self.error = StreamFault(message=message, status=int(status), QoS=offer)


def unknown() -> Refusal:
    """Of a stream that is not there, or another application's: both get the same answer."""
    return Refusal(NOT_FOUND, "no such stream of this SAE")


def refusal(status: Code, message: str, *, final: bool, retry_after_s: int | None) -> StreamRefusal:
    """The answer to a call that came to nothing; ``final``: nor would it again."""
    lasting = final or status in {Code.IN_USE, Code.QUALITY, Code.METADATA}
    return StreamRefusal(
        BAD_REQUEST if lasting else UNAVAILABLE, status, message, retry_after_s=None if lasting else retry_after_s
    )


def asked(quality: Quality | None, limits: Limits) -> Granted:
    """What is asked for, with defaults in place of what is not."""
    given = {k: v for k, v in msgspec.structs.asdict(quality or Quality()).items() if v is not msgspec.UNSET}
    made = {"Key_chunk_size": limits.key_size // 8, "TTL": limits.ttl_s} | given
    if made["Max_bps"] and made["Max_bps"] < made["Min_bps"]:
        raise Refusal(BAD_REQUEST, "Max_bps shall not be below Min_bps")
    return Granted(**made)


def offer(wanted: Granted, limits: Limits, stock_bytes: int) -> Granted:
    """What of it can be met."""
    size = min(max(wanted.Key_chunk_size, limits.min_key_size // 8), limits.max_key_size // 8)
    return msgspec.structs.replace(
        wanted,
        Key_chunk_size=size,
        Min_bps=min(wanted.Min_bps, 8 * stock_bytes // STOCK_S),
        Timeout=min(max(wanted.Timeout, LEAST_TIMEOUT_MS), MOST_TIMEOUT_MS),
        TTL=min(max(wanted.TTL, 1), limits.max_ttl_s),
        Metadata_mimetype=MIMETYPE if wanted.Metadata_mimetype else "",
    )
