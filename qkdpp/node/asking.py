"""Questions of a receiver to its sender: what to send from now on. The sender answers when it does so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qkdpp.core.errors import DeviceError, LinkError
from qkdpp.core.stage import Message
from qkdpp.node.blocks import BlockRunner
from qkdpp.node.live_messages import Ask, Asked

ANSWER_S = 20.0


class Asker:
    """Asks over ``runner``; answers come by :meth:`heard`."""

    def __init__(self, runner: BlockRunner) -> None:
        self._runner = runner
        self._questions: dict[int, asyncio.Future[Asked]] = {}

    def heard(self, message: Message) -> None:
        """One control message of the sender."""
        if not isinstance(message, Asked):
            return
        waiting = self._questions.get(message.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def ask(self, mode: str) -> int:
        """Asks the sender to send something; its epoch. DeviceError if it cannot, LinkError if it does not answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._answer(mode)
        except TimeoutError:
            raise LinkError(f"the sender did not answer the request for {mode} within {ANSWER_S:g} s") from None
        if answer.error:
            raise DeviceError(f"the sender cannot send {mode}: {answer.error}")
        return answer.epoch

    async def _answer(self, mode: str) -> Asked:
        """Asks once the link is up: what waits for a link that is down has taken a pad for nothing."""
        await self._runner.connected()
        number = self._runner.new_number()
        waiting: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()
        self._questions[number] = waiting
        try:
            self._runner.send_control(Ask(number=number, mode=mode))
            return await waiting
        finally:
            self._questions.pop(number, None)

    def from_thread(self, loop: asyncio.AbstractEventLoop, stops: Callable[[], bool]) -> Callable[[str], int]:
        """The same for a thread; LinkError once ``stops`` says that the node stops."""

        def ask(mode: str) -> int:
            if stops():
                raise LinkError("the node stops")
            return asyncio.run_coroutine_threadsafe(self.ask(mode), loop).result()

        return ask
