"""Sends a file under a one-time pad: as much key from a key manager as the file is long, each bit used once.

A pad hides a file and proves nothing: whoever turns a bit of the cipher turns that bit of the file. Hence a tag for
every frame (frames.py): a polynomial hash over GF(2^128) under 16 bytes of key, hidden by 16 more (Wegman and Carter
1981). A forged frame of n bytes passes with probability at most (n / 16 + 6) / 2^128, whatever the forger can compute.

A frame is as long as the largest key less these 32 bytes, which always come first in a key: were they to follow the
pad, a forger who knows the file could shorten it and have its pad taken for the key of the tag.
"""

import hmac
from argparse import Namespace
from itertools import count
from typing import BinaryIO

from frames import TAG_BYTES, frames, make_context, make_head, run

from qkdpp.delivery import Client
from qkdpp.kernels import poly_hash

PAD_AT = 2 * TAG_BYTES


def seal(client: Client, slave: str, given: Namespace, plain: BinaryIO, out: BinaryIO) -> None:
    """Encrypts a file, one key a frame."""
    del given
    at_once = client.status(slave).max_key_size // 8 - PAD_AT
    first, text = None, b" "
    for number in count():
        if not text:
            return
        text = plain.read(at_once)
        (key,) = client.get(slave, size=8 * (PAD_AT + len(text)))
        first = first or key.key_id
        head, cipher = make_head(key.key_id, text), xor(text, key.key[PAD_AT:])
        out.write(head + cipher + make_tag(key.key, make_context(first, number) + head + cipher))


def unseal(client: Client, master: str, given: Namespace, sealed: BinaryIO, out: BinaryIO) -> None:
    """Writes what is proven to be the sender's. ValueError where it is not."""
    del given
    first = None
    for number, frame in enumerate(frames(sealed)):
        (key,) = client.fetch(master, [frame.key_id])
        first = first or frame.key_id
        covered = make_context(first, number) + frame.head + frame.cipher
        if not hmac.compare_digest(make_tag(key.key, covered), frame.tag):
            raise ValueError(f"frame {number} is not the sender's")
        out.write(xor(frame.cipher, key.key[PAD_AT:]))


def make_tag(key: bytes, message: bytes) -> bytes:
    """Hash under the first 16 bytes of a key, hidden by the next 16."""
    return xor(poly_hash(key[:TAG_BYTES], message), key[TAG_BYTES:PAD_AT])


def xor(a: bytes, b: bytes) -> bytes:
    """Of two strings equally long. ValueError if they are not."""
    if len(a) != len(b):
        raise ValueError("a key and what it hides differ in length")
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


if __name__ == "__main__":
    run(__doc__, seal, unseal)
