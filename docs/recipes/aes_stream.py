"""Encrypts a stream with AES-128-GCM under keys from a key manager, a new one so many times a minute.

Schedule of Chen et al., Nature 589, 214 (2021): keys of 128 bits, one a minute for a pair of users, ten a minute for
bank transfers. Frames as in frames.py. The number of a frame, which goes on from key to key, is its nonce.
"""

import time
from argparse import Namespace
from itertools import count
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from frames import frames, make_context, make_head, run

from qkdpp.delivery import Client

KEY_BITS = 128
TEXT_BYTES = 1 << 16


def seal(client: Client, slave: str, given: Namespace, plain: BinaryIO, out: BinaryIO) -> None:
    """Encrypts text as it comes; every frame leaves at once."""
    refresh_at, first, text = 0.0, None, b" "
    for number in count():
        if not text:
            return
        text = plain.read1(TEXT_BYTES)  # type: ignore[attr-defined]
        if (now := time.monotonic()) >= refresh_at:
            (key,) = client.get(slave, size=KEY_BITS)
            refresh_at = now + 60.0 / given.keys_per_minute
        first = first or key.key_id
        head, context = make_head(key.key_id, text), make_context(first, number)
        out.write(head + AESGCM(key.key).encrypt(number.to_bytes(12, "big"), text, context + head))
        out.flush()


def unseal(client: Client, master: str, given: Namespace, sealed: BinaryIO, out: BinaryIO) -> None:
    """Writes text that is proven to be the sender's. ValueError where it is not."""
    del given
    key = first = None
    for number, frame in enumerate(frames(sealed)):
        if key is None or key.key_id != frame.key_id:
            (key,) = client.fetch(master, [frame.key_id])
        first = first or frame.key_id
        covered = make_context(first, number) + frame.head
        try:
            out.write(AESGCM(key.key).decrypt(number.to_bytes(12, "big"), frame.cipher + frame.tag, covered))
        except InvalidTag:
            raise ValueError(f"frame {number} is not the sender's") from None
        out.flush()


if __name__ == "__main__":
    run(__doc__, seal, unseal, keys_per_minute=1.0)
