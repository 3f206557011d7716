"""A loop that does not come to its end leaves its instruments as they were."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from qkdpp.core.errors import DeviceError

_log = logging.getLogger("qkdpp.node")


@contextlib.contextmanager
def restored(what: str, put_back: Callable[[], object]) -> Iterator[None]:
    """Calls ``put_back`` where the body raises; ``what`` names the instruments in the log."""
    try:
        yield
    except Exception:
        try:
            put_back()
        except DeviceError as error:
            _log.error("%s are left as they stand: %s", what, error)
        else:
            _log.info("%s are put back as they were", what)
        raise
