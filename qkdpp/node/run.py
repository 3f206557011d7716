"""One node from its file to its end: signals, a limit of time, and what is said at the end.

The first SIGINT or SIGTERM ends it cleanly: no more blocks are opened, those under way end, the source is darkened,
the peer is told. The second ends it at once, which is safe: nothing that matters is kept in memory alone. SIGHUP is
noted in the log: a node outlives its terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qkdpp.delivery.config import Delivery
from qkdpp.keystore import KeyStore
from qkdpp.node.assemble import assembled
from qkdpp.node.calibration import Result
from qkdpp.node.config import NodeFile, check_calibrates
from qkdpp.node.delivery import ALARM, delivering
from qkdpp.node.monitors import Alarm
from qkdpp.node.node import GO_ON, Node
from qkdpp.node.once import CalibrateOnce
from qkdpp.node.quarantine import LiveStore
from qkdpp.node.status import Status, Watcher

_log = logging.getLogger("qkdpp.node")

EXIT_AT_ONCE = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        status: at the end.
        folder: of the run.
        refused: why it must not count as a success, with what to do; empty if all went well.
    """

    status: Status
    folder: str
    refused: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """How a calibration ended.

    Attributes:
        results: of the loops that ran, by name, also of one that failed.
        refused: why it must not count as a success; empty if all went well.
        interrupted: whether it was ended from outside.
        may_send: whether the sender did not confirm that it is dark.
        folder: of the run.
    """

    results: dict[str, Result]
    refused: str
    interrupted: bool
    may_send: bool
    folder: Path


def calibrate_node(file: NodeFile, store: LiveStore, *, watchers: Sequence[Watcher], alarms: list[Alarm]) -> Calibrated:
    """Runs the loops of a receiver's file once, against a sender that runs; errors and alarms as :func:`run_node`."""
    check_calibrates(file)
    with assembled(file, store, now=time.monotonic, watchers=watchers, alarms=alarms, once=True) as made:
        assert isinstance(made.service, CalibrateOnce)
        made.service.finished = made.node.stop
        asyncio.run(_until_the_end(made.node, None, None, alarms))
        service, status = made.service, made.node.status
        return Calibrated(
            results=service.calibrator.found,
            refused=refusal(status, None) or service.failure,
            interrupted=service.interrupted and not status.failure,
            may_send=service.may_send,
            folder=made.folder.path,
        )


def run_node(
    file: NodeFile,
    store: LiveStore,
    *,
    watchers: Sequence[Watcher],
    alarms: list[Alarm],
    duration_s: float | None,
    served: tuple[Delivery, KeyStore] | None = None,
) -> Ended:
    """Runs the node until a signal, the end of ``duration_s`` seconds, or a link that has failed for good.

    What others append to ``alarms`` is raised by the node. ``served``: what is delivered to applications meanwhile, and
    the store of ``store``.

    Raises:
        InputError: the file, a device, the pool or the store does not serve, or it cannot listen.
    """
    with assembled(file, store, now=time.monotonic, watchers=watchers, alarms=alarms) as made:
        asyncio.run(_until_the_end(made.node, duration_s, served, alarms))
        status = made.node.status
        return Ended(status=status, folder=str(made.folder.path), refused=refusal(status, duration_s))


async def _until_the_end(
    node: Node, duration_s: float | None, served: tuple[Delivery, KeyStore] | None, alarms: list[Alarm]
) -> None:
    loop = asyncio.get_running_loop()
    asked = 0

    def stop(name: str) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(EXIT_AT_ONCE)
        _log.info("%s: the node stops; once more ends it at once", name)
        node.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name)
    loop.add_signal_handler(signal.SIGHUP, _log.info, "SIGHUP: the node goes on; SIGTERM ends it")
    if duration_s is not None:
        loop.call_later(duration_s, node.stop)
    _log.info("the node has started")
    async with contextlib.AsyncExitStack() as stack:
        if served is not None:
            await stack.enter_async_context(
                delivering(*served, alarmed=alarms.append, well=lambda: node.clear(ALARM)),
            )
        await node.run()


def refusal(status: Status, duration_s: float | None) -> str:
    """Why a run that ended so is no success, and what to do; empty if it is one."""
    if status.security:
        named = [alarm for alarm in status.alarms if alarm.level == "security"]
        words = [f"security alarm {alarm.name}: {alarm.message}; {alarm.remedy}" for alarm in named]
        return "; ".join([*words, GO_ON])
    if status.failure:
        return f"link {status.link}; {status.failure}"
    if duration_s is not None and not status.secret_bits:
        ends = ", ".join(f"{n} x {reason}" for reason, n in sorted(status.blocks.items())) or "no block has ended"
        return f"no key in {duration_s:g} s: {ends}"
    return ""
