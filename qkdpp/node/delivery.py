"""Delivery from the store that a live node has open: ``[delivery]`` of its file, in its event loop.

The node comes first: what the delivery server fails with becomes an alarm, and
it is started again; blocks go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from qkdpp.core.errors import ConfigError, QkdppError
from qkdpp.delivery.config import Delivery, load_delivery
from qkdpp.delivery.server import serving
from qkdpp.keystore import KeyStore
from qkdpp.node.config import NodeFile
from qkdpp.node.monitors import Alarm, Level

_log = logging.getLogger("qkdpp.node")

ALARM: Final = "delivery"
AGAIN_S: Final = 10.0


def delivery_of(file: NodeFile) -> Delivery | None:
    """What the node serves; None without ``[delivery]``. ConfigError if its file is of another store."""
    if file.delivery is None:
        return None
    if file.store is None:
        raise ConfigError(f"{file.path}: [delivery] needs a [store], from which keys are given out")
    found = load_delivery(file.folder / file.delivery.file)
    if found.server.name != file.node.name:
        raise ConfigError(f"{found.path}: server.name is {found.server.name!r}; node.name is {file.node.name!r}")
    if found.file(found.store.folder).resolve() != (file.folder / file.store.folder).resolve():
        raise ConfigError(f"{found.path}: store.folder is not the store of {file.path}")
    if file.store.peer not in {peer.name for peer in found.peers}:
        raise ConfigError(f"{found.path}: no [[peer]] {file.store.peer!r}, who is the peer of {file.path}")
    return found


@contextlib.asynccontextmanager
async def delivering(
    delivery: Delivery, store: KeyStore, *, alarmed: Callable[[Alarm], None], well: Callable[[], None]
) -> AsyncIterator[None]:
    """Serves ``store`` until the end of the context, which finishes answers under way.

    Args:
        delivery: what is served.
        store: an open one.
        alarmed: told why nothing is served now.
        well: told when it is served (again).
    """

    async def keep() -> None:
        while True:
            try:
                async with serving(delivery, store) as ports:
                    _log.info("applications are answered on port %d", ports.applications)
                    well()
                    await asyncio.Event().wait()
            except Exception as error:
                if not isinstance(error, (QkdppError, OSError)):
                    _log.exception("the delivery server has failed")
                alarmed(_alarm(error))
            await asyncio.sleep(AGAIN_S)

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _alarm(error: Exception) -> Alarm:
    return Alarm(
        name=ALARM,
        level=Level.CRITICAL,
        message=f"keys are not given out: {str(error) or type(error).__name__}",
        remedy=f"mend it, the delivery server is tried again every {AGAIN_S:g} s; keys are made meanwhile",
    )
