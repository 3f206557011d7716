"""The key store of a node, as its file names it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from qkdpp.core.errors import ConfigError
from qkdpp.keystore import KeyStore, wrapping_of
from qkdpp.node.config import NodeFile
from qkdpp.node.monitors import Alarm, Level


@contextlib.contextmanager
def open_store(file: NodeFile, alarmed: Callable[[list[Alarm]], None]) -> Iterator[KeyStore]:
    """The store of the file with its link, open until the end of the context; both are made where they are missing.

    A key-encrypting key is made only with a new store.

    Raises:
        ConfigError: the file has no ``[store]``.
        InputError: the store or its key does not serve.
    """
    section = file.store
    if section is None:
        raise ConfigError(f"{file.path}: needs a [store] for its keys: folder, key and peer (docs/formats/node.md)")
    folder = file.folder / section.folder
    wrapping = wrapping_of(section.key, file.folder, create=not folder.exists())

    def alarm(message: str) -> None:
        remedy = "look at the store before keys are taken from it (docs/formats/keystore.md)"
        alarmed([Alarm(name="store", level=Level.CRITICAL, message=message, remedy=remedy)])

    with KeyStore(folder, file.node.name, wrapping, alarm=alarm) as store:
        store.link(section.peer)
        yield store
