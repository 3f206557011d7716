"""What both recipes for files share: frames that name their key, and the command line.

A stream is a row of frames, each

    flag (u8: 1 ends the stream), key ID (16 bytes), length (u32, big-endian), cipher of that length, tag (16 bytes)

A tag covers the frame and its context: the ID of the stream's first key, and the frame's number. So frames that are
changed, left out, repeated, moved, cut off at the end or taken from another stream are refused.
"""

import argparse
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from qkdpp.core.errors import QkdppError
from qkdpp.delivery import Client, DeliveryError

HEAD = struct.Struct(">B16sI")
TAG_BYTES = 16
LARGEST = 1 << 24
Work = Callable[[Client, str, argparse.Namespace, BinaryIO, BinaryIO], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame as it arrived: nothing in it is proven yet."""

    last: bool
    key_id: UUID
    head: bytes
    cipher: bytes
    tag: bytes


def make_head(key_id: UUID, text: bytes) -> bytes:
    """Of a frame; one without text is the last."""
    return HEAD.pack(not text, key_id.bytes, len(text))


def make_context(first: UUID, number: int) -> bytes:
    """What every tag covers beside its frame."""
    return first.bytes + number.to_bytes(12, "big")


def frames(sealed: BinaryIO) -> Iterator[Frame]:
    """Frames up to the last. ValueError if the stream ends before."""
    last = False
    while not last:
        head = sealed.read(HEAD.size)
        if len(head) < HEAD.size:
            raise ValueError("the end of the stream is missing")
        flag, key_id, length = HEAD.unpack(head)
        if length > LARGEST:
            raise ValueError("not a frame")
        last = bool(flag)
        cipher, tag = sealed.read(length), sealed.read(TAG_BYTES)
        yield Frame(last=last, key_id=UUID(bytes=key_id), head=head, cipher=cipher, tag=tag)


def run(doc: str, seal: Work, unseal: Work, **options: float) -> None:
    """Standard input to standard output; ``options`` are further numbers and their defaults.

    Exit codes as of qkdpp: 2 bad input, usage or surroundings; 3 no key for a stated reason; 130 interrupted.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=("seal", "open"))
    parser.add_argument("where", help="key manager of this side, as host:port")
    parser.add_argument("sae", help="application at the other end")
    parser.add_argument("--authority", type=Path, required=True, help="PEM file")
    parser.add_argument("--certificate", type=Path, required=True, help="PEM file; its key beside it ends in .key")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    given = parser.parse_args()
    key = given.certificate.with_suffix(".key")
    work = seal if given.way == "seal" else unseal
    try:
        with Client(given.where, authority=given.authority, certificate=given.certificate, key=key) as client:
            work(client, given.sae, given, sys.stdin.buffer, sys.stdout.buffer)
    except (QkdppError, ValueError) as error:
        code = 3 if isinstance(error, DeliveryError) and error.no_key else 2
        parser.exit(code, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130)
