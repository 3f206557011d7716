"""A receiver that only calibrates: the loops run once against a sender that serves, and the node ends.

However it ends, the sender is asked to be dark, and loops that were under way put their instruments back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

from qkdpp.core.devices import TimeTagger
from qkdpp.core.errors import DeviceError, LinkError
from qkdpp.core.stage import Message
from qkdpp.node.asking import Asker
from qkdpp.node.blocks import BlockRunner
from qkdpp.node.calibration import Calibrator
from qkdpp.node.sink import BlockEnd

_log = logging.getLogger("qkdpp.node")


class CalibrateOnce:
    """Fulfils ``Service``.

    Attributes:
        failure: why it did not succeed, else empty.
        interrupted: whether it was ended from outside.
        may_send: whether the sender did not confirm that it is dark.
        finished: is called when it is over.

    Args:
        runner: of the link to the sender; no block is begun.
        tagger: connected.
        calibrator: with the loops that are asked for.
        ending: ends the calibrator early.
    """

    def __init__(
        self, runner: BlockRunner, tagger: TimeTagger, calibrator: Calibrator, ending: threading.Event
    ) -> None:
        self._asker, self._tagger, self.calibrator, self._ending = Asker(runner), tagger, calibrator, ending
        self.failure = "the other node was not there"
        self.interrupted = True
        self.may_send = False
        self.finished: Callable[[], None] = lambda: None

    async def heard(self, message: Message) -> None:
        """An answer of the sender."""
        self._asker.heard(message)

    async def run(self) -> None:
        """Calibrates once, and darkens the sender."""
        loop = asyncio.get_running_loop()
        ask: Callable[[str], int] = self._asker.from_thread(loop, self._ending.is_set)
        try:
            await asyncio.to_thread(self._tagger.start)
            await asyncio.to_thread(self.calibrator.run, ask, "asked for")
            self.failure = ""
        except (DeviceError, LinkError) as error:
            self.failure = str(error)
        finally:
            self.interrupted = self._ending.is_set()
            await self._darken()
            with contextlib.suppress(DeviceError):
                await asyncio.to_thread(self._tagger.stop)
            self.finished()

    async def _darken(self) -> None:
        try:
            await self._asker.ask("OFF")
        except (DeviceError, LinkError) as error:
            self.may_send = True
            _log.warning("the transmitter may still be sending: %s", error)

    def stop(self) -> None:
        """Ends :meth:`run` soon."""
        self._ending.set()

    def recalibrate(self, reason: str, epoch: int) -> None:
        """There are no blocks that could ask for it."""

    def hold(self, why: str) -> None:
        """There are none to hold back."""

    def ended(self, end: BlockEnd) -> None:
        """There are no blocks."""
