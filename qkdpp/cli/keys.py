"""``qkdpp keys``: authentication pools, the stock of a key store, keys from a key manager."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

command = typer.Typer(
    no_args_is_help=True, help="Authentication pools, the stock of a key store, and keys from a key manager."
)
Store = Annotated[Path, typer.Argument(help="Folder of a key store that no process owns.")]
AnyStore = Annotated[Path, typer.Argument(help="Folder of a key store; a node may have it open.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OwnKey = Annotated[Path | None, typer.Option(help="PEM file of the key, if it is elsewhere.")]
EXIT_NO_KEY = 3
Kme = Annotated[str | None, typer.Option(help="Name that the key manager's certificate must show; the host if absent.")]


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no UUID; give the identifier that the other end was told") from None


@command.command()
def pool(
    path: Annotated[Path, typer.Argument(help="New file for Alice; Bob's copy gets the suffix .bob.")],
    tags: Annotated[int, typer.Option(help="Tags per direction; a block takes up to four in one of them.")] = 1000,
) -> None:
    """Create an authentication pool and its copy for the other party.

    Both files are secret (mode 0600) and are used up by the blocks they authenticate. Carry the copy to the other
    party by hand, name the files as alice.pool and bob.pool in run.toml, and keep no third copy.
    """
    from qkdpp.core.entropy import OsEntropy
    from qkdpp.core.keyfile import create_secret
    from qkdpp.link.pool_file import create_pool

    create_pool(path, tags, OsEntropy())
    copy = path.with_name(path.name + ".bob")
    create_secret(copy, path.read_bytes())
    print(f"{path} and {copy}: {tags} tags per direction")


@command.command()
def kek(path: Annotated[Path, typer.Argument(help="New file, outside the folder of the key store.")]) -> None:
    """Create a key-encrypting key, under which a key store seals its data keys (mode 0400)."""
    from qkdpp.core.entropy import OsEntropy
    from qkdpp.keystore import create_kek

    create_kek(path, OsEntropy())
    print(f"{path}: keep it apart from the store, and no copy of it")


@command.command()
def get(
    where: Annotated[str, typer.Argument(help="Key manager, as host:port.")],
    sae: Annotated[str, typer.Argument(help="Application at the other end: the slave, or with --id the master.")],
    *,
    authority: Annotated[Path, typer.Option(help="PEM file of the authority.")],
    certificate: Annotated[Path, typer.Option(help="PEM file of this application; its key beside it ends in .key.")],
    key: OwnKey = None,
    kme: Kme = None,
    number: Annotated[int | None, typer.Option(min=1, help="Keys to ask for; 1 if absent.")] = None,
    size: Annotated[int | None, typer.Option(help="Bits of each; the key manager's default if absent.")] = None,
    key_id: Annotated[
        list[UUID] | None,
        typer.Option("--id", parser=_uuid, metavar="UUID", help="Fetch the key of this key_ID; again for more."),
    ] = None,
) -> None:
    """Get keys from a key manager (ETSI GS QKD 014) and print the standard's Key container (JSON).

    The output is secret: direct it into a file that nobody else can read, or into a program. Exit code 3: the key
    manager has no key to give now.
    """
    from msgspec.json import encode

    from qkdpp.core.errors import InputError
    from qkdpp.delivery import Client
    from qkdpp.delivery.bodies import KeyContainer, KeyItem

    if key_id and not (number is None and size is None):
        raise InputError("--id names keys that are there: leave out --number and --size")
    key = key or certificate.with_suffix(".key")
    with _in_words(where), Client(where, authority=authority, certificate=certificate, key=key, name=kme) as client:
        keys = client.fetch(sae, key_id) if key_id else client.get(sae, number or 1, size)
    print(encode(KeyContainer(keys=tuple(KeyItem(key_ID=str(k.key_id), key=k.key) for k in keys))).decode())


@command.command()
def stream(
    where: Annotated[str, typer.Argument(help="Key manager, as host:port.")],
    source: Annotated[str, typer.Argument(help="Application whose key manager gives the key.")],
    destination: Annotated[str, typer.Argument(help="Application at the other end; one of the two is this one.")],
    *,
    authority: Annotated[Path, typer.Option(help="PEM file of the authority.")],
    certificate: Annotated[Path, typer.Option(help="PEM file of this application; its key beside it ends in .key.")],
    key: OwnKey = None,
    kme: Kme = None,
    number: Annotated[int, typer.Option(min=1, help="Chunks to read.")] = 1,
    size: Annotated[int | None, typer.Option(min=1, help="Bytes of each; the key manager's default if absent.")] = None,
    stream_id: Annotated[
        UUID | None, typer.Option("--id", parser=_uuid, metavar="UUID", help="Stream to join, or a new UUID agreed on.")
    ] = None,
    wait_s: Annotated[
        float, typer.Option(min=0, help="How long to wait for the link, the other application and key.")
    ] = 60,
) -> None:
    """Read chunks of a key stream (ETSI GS QKD 004), print them as lines of JSON, and close it.

    The first line is the identifier, with which the other application joins (--id). The output is secret: direct it
    into a file that nobody else can read, or into a program. Exit code 3: the stream came to nothing in time.
    """
    from base64 import b64encode

    from msgspec.json import encode

    from qkdpp.delivery import Client
    from qkdpp.delivery.client import patiently

    quality = {} if size is None else {"Key_chunk_size": size}
    key = key or certificate.with_suffix(".key")
    with (
        _in_words(where),
        Client(where, authority=authority, certificate=certificate, key=key, name=kme) as client,
        patiently(lambda: client.open_stream(source, destination, stream_id=stream_id, **quality), wait_s) as opened,
    ):
        print(encode({"key_stream_ID": opened.stream_id, "QoS": opened.quality}).decode(), flush=True)
        for _ in range(number):
            chunk = opened.wait(wait_s)
            print(encode({"index": chunk.index, "key": b64encode(chunk.key).decode()}).decode(), flush=True)


@contextlib.contextmanager
def _in_words(where: str) -> Iterator[None]:
    """What a key manager refuses, or that it cannot be reached, in one line; exit code 3 where it has no key."""
    from qkdpp.core.errors import InputError, LinkError
    from qkdpp.delivery import DeliveryError

    try:
        yield
    except DeliveryError as error:
        if error.no_key:
            print(f"qkdpp: {where}: {error}", file=sys.stderr)
            raise typer.Exit(EXIT_NO_KEY) from error
        raise InputError(f"{where}: {error}") from error
    except LinkError as error:
        raise InputError(str(error)) from error


@command.command()
def status(store: AnyStore, json: Json = False) -> None:
    """Show what a key store holds, link by link, in bytes."""
    from msgspec.json import encode

    from qkdpp.keystore.look import stock

    own, links, broken = stock(store)
    if json:
        print(encode({"key_manager": own, "links": links, "log_broken_at": broken}).decode())
        return
    print(f"{own}: log {'whole' if broken is None else f'changed at event {broken}'}")
    columns = ("available", "incoming", "resting", "pending", "held", "stored", "app", "burned", "expired")
    _table(
        ("peer", "epoch", *columns),
        [(s.peer, s.epoch, *(s.totals.get(name, getattr(s, name, 0)) for name in columns)) for s in links],
    )
    for s in links:
        if s.closed:
            print(f"{s.peer}: CLOSED: {s.closed}")


@command.command()
def ls(store: AnyStore, json: Json = False) -> None:
    """List keys that are reserved or wait for an application; never their bytes."""
    from msgspec.json import encode

    from qkdpp.keystore.look import list_keys

    keys = list_keys(store)
    if json:
        print(encode(keys).decode())
        return
    header = ("key", "state", "peer", "master", "slave", "bytes", "expires (unix s)")
    _table(
        header,
        [(k.key_id, k.state, k.peer, k.master, k.slave or "-", k.nbytes, k.not_after // 10**9) for k in keys],
    )


@command.command()
def expire(store: Store, json: Json = False) -> None:
    """Destroy keys and blocks past their time."""
    from msgspec.json import encode

    from qkdpp.keystore.look import expire_now, stock

    expire_now(store)
    links = stock(store)[1]
    if json:
        print(encode({s.peer: s.totals["expired"] for s in links}).decode())
        return
    for s in links:
        print(f"{s.peer}: {s.totals['expired']} bytes expired so far")


@command.command()
def renew(
    store: Store,
    peer: Annotated[str, typer.Argument(help="Key manager at the other end.")],
    epoch: Annotated[int | None, typer.Option(min=2, help="Pairing epoch; both ends need the same number.")] = None,
) -> None:
    """Destroy all keys of a link and pair it anew, after an alarm; do so at both ends."""
    from qkdpp.keystore.look import pair_anew

    chosen = pair_anew(store, peer, epoch)
    print(f"{peer}: all keys destroyed; now at the other end: qkdpp keys renew STORE PEER --epoch {chosen}")


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their widest entry, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(header))]
    for line in (list(header), *cells):
        fitted = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(fitted).rstrip())
