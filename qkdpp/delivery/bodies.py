"""JSON bodies of ETSI GS QKD 014 V1.1.1, clause 6, and its fixed texts (clause 6.5).

Members that the standard does not know are ignored. Integers must be written as
integers. Nothing here prints a key.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

NOT_BYTES: Final = "size shall be a multiple of 8"
UNSUPPORTED: Final = "not all extension_mandatory parameters are supported"
UNMET: Final = "not all extension_mandatory request options could be met"
OPTIONAL_UNMET: Final = "not all extension_optional request options handled"
NOT_FOUND: Final = "one or more keys specified are not found on KME"

UUID_PATTERN: Final = "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
KeyId = Annotated[
    str, msgspec.Meta(pattern=UUID_PATTERN, max_length=36, examples=["550e8400-e29b-41d4-a716-446655440000"])
]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Extension = dict[str, Any]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of Get status; sizes in bits."""

    source_KME_ID: str  # noqa: N815 - the standard's names
    target_KME_ID: str  # noqa: N815
    master_SAE_ID: str  # noqa: N815
    slave_SAE_ID: str  # noqa: N815
    key_size: Positive
    stored_key_count: Count
    max_key_count: Count
    max_key_per_request: Positive
    max_key_size: Positive
    min_key_size: Positive
    max_SAE_ID_count: Count  # noqa: N815


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of Get key; ``size`` in bits, None for the default."""

    number: Positive = 1
    size: Positive | msgspec.UnsetType = msgspec.UNSET
    additional_slave_SAE_IDs: tuple[str, ...] = ()  # noqa: N815
    extension_mandatory: tuple[Extension, ...] = ()
    extension_optional: tuple[Extension, ...] = ()


class KeyIdItem(msgspec.Struct, frozen=True, kw_only=True):
    """One key to fetch; the extension is reserved by the standard and ignored."""

    key_ID: KeyId  # noqa: N815
    key_ID_extension: Extension | msgspec.UnsetType = msgspec.UNSET  # noqa: N815


class KeyIds(msgspec.Struct, frozen=True, kw_only=True):
    """Body of Get key with key IDs."""

    key_IDs: Annotated[tuple[KeyIdItem, ...], msgspec.Meta(min_length=1)]  # noqa: N815
    key_IDs_extension: Extension | msgspec.UnsetType = msgspec.UNSET  # noqa: N815


class KeyItem(msgspec.Struct, frozen=True, kw_only=True):
    """One key on its way out; ``key`` is written as base64 with padding."""

    key_ID: str  # noqa: N815
    key: bytes

    def __repr__(self) -> str:
        return f"KeyItem({self.key_ID})"


class KeyContainer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of Get key and of Get key with key IDs."""

    keys: tuple[KeyItem, ...]


class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of every answer but 200."""

    message: str
    details: tuple[dict[str, str], ...] = ()


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of requests, told in Status; sizes in bits.

    ``max_ttl_s`` bounds the extension ``qkdpp_ttl_s``, ``ttl_s`` is its default. ``refuse_optional``: whether an
    optional extension that is not honoured refuses the request.
    """

    key_size: int = 256
    min_key_size: int = 64
    max_key_size: int = 262_144
    max_key_per_request: int = 128
    max_sae_id_count: int = 8
    ttl_s: int = 3600
    max_ttl_s: int = 86_400
    refuse_optional: bool = False
