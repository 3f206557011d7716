"""From a checked node file to a node: devices connected, link, pool, service and run folder made."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from qkdpp.core.devices import driver_registry
from qkdpp.core.errors import ConfigError, DeviceError
from qkdpp.link.hello import named_fields
from qkdpp.link.pool_file import FilePool
from qkdpp.link.session import Session, Setup
from qkdpp.link.tcp import Address, TcpLink, TlsFiles
from qkdpp.node.blocks import BlockRunner, Policy
from qkdpp.node.calibration import Calibrator, bench_of
from qkdpp.node.config import NodeFile
from qkdpp.node.last_calibration import CalibrationFile
from qkdpp.node.live_messages import LIVE_CONTROLS
from qkdpp.node.messages import CONTROLS
from qkdpp.node.monitors import Alarm
from qkdpp.node.node import Node, Service
from qkdpp.node.once import CalibrateOnce
from qkdpp.node.pair_ends import PairEnd
from qkdpp.node.quarantine import LiveStore
from qkdpp.node.receiver import Plan, Receiver
from qkdpp.node.recording import Recorder
from qkdpp.node.rundir import RunFolder
from qkdpp.node.sender import Sender, check_transmitter
from qkdpp.node.status import Progress, Status, Watcher
from qkdpp.node.triggers import Triggers
from qkdpp.timing.pulsed import PulsedParams

_log = logging.getLogger("qkdpp.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A node that is ready to run."""

    node: Node
    service: Service
    folder: RunFolder
    port: Callable[[], int]


@contextlib.contextmanager
def connected(file: NodeFile, folder: RunFolder) -> Iterator[dict[str, Any]]:
    """All devices of the file, identities checked, snapshots taken; closed at the end.

    Raises:
        ConfigError: a device cannot be had; the message names it.
    """
    with contextlib.ExitStack() as stack:
        devices: dict[str, Any] = {}
        for name, section in file.devices.items():
            try:
                url = _absolute(section.url, file.folder)
                device = driver_registry().connect(section.driver, url, **section.options)
            except (DeviceError, TypeError) as error:
                raise ConfigError(f"{file.path}: devices.{name}: {error}") from error
            stack.callback(_close, name, device)
            folder.snapshot(name, device.snapshot())
            devices[name] = device
        yield devices


def _absolute(url: str, folder: Path) -> str:
    """``lab=`` of a simulated instrument counts from the folder of the file."""
    head, found, lab = url.partition("lab=")
    return f"{head}{found}{folder / lab}" if found else url


def _close(name: str, device: Any) -> None:  # noqa: ANN401 - any driver
    try:
        device.close()
    except DeviceError as error:
        _log.warning("device %s: %s", name, error)


@contextlib.contextmanager
def assembled(
    file: NodeFile,
    store: LiveStore,
    *,
    now: Callable[[], float],
    watchers: Sequence[Watcher] = (),
    alarms: list[Alarm] | None = None,
    once: bool = False,
) -> Iterator[Assembled]:
    """The node of a file, its run folder and its devices open until the end of the context.

    What others append to ``alarms`` is raised by the node. ``once``: a receiver that calibrates once and makes no key.
    """
    folder = RunFolder(file.folder / file.node.folder, file.node.name, transcripts=file.recording.transcripts)
    with contextlib.ExitStack() as stack:
        stack.callback(folder.close)
        folder.keep("node.toml", file.text)
        devices = stack.enter_context(connected(file, folder))
        pool = stack.enter_context(FilePool(file.folder / file.pool.file, file.node.role))
        link = _link(file, pool)
        policy = Policy(
            deadline_s=file.blocks.deadline_s, refill_below=file.pool.refill_below, refill_to=file.pool.refill_to
        )
        runner = BlockRunner(link, pool, store, file.node.role, policy)
        alarms = [] if alarms is None else alarms
        status = Status(name=file.node.name, role=file.node.role)
        service = _service(
            file, runner, devices, folder, now=now, alarmed=alarms.extend, progress=status.progress, once=once
        )
        receiver = file.receiver
        node = Node(
            runner,
            pool,
            store,
            service=service,
            parameters=file.parameters,
            alarms=file.alarms,
            triggers=Triggers(file.calibration.recalibrate_qber, file.calibration.recalibrate_blocks),
            folder=folder,
            status=status,
            meters={} if receiver is None else {d: devices[n] for d, n in receiver.current_meters.items()},
            pending_alarms=alarms,
            watchers=watchers,
            now=now,
        )
        yield Assembled(node=node, service=service, folder=folder, port=lambda: link.port)


def _link(file: NodeFile, pool: FilePool) -> TcpLink:
    public = named_fields(file.parameters) | {
        f"blocks.{name}": msgspec.json.encode(getattr(file.blocks, name)).decode() for name in ("block_s", "in_flight")
    }
    setup = Setup(role=file.node.role, parameters=public, open_blocks=file.blocks.in_flight)
    session = Session(setup, pool, (*CONTROLS, *LIVE_CONTROLS))
    host, port, listen = file.link.address()
    tls = None
    if (names := file.link.tls()) is not None:
        authority, certificate, key, peer = names
        tls = TlsFiles(
            authority=file.folder / authority,
            certificate=file.folder / certificate,
            key=file.folder / key,
            peer_name=peer,
        )
    return TcpLink(session, Address(host=host, port=port, listen=listen), tls)


def _service(
    file: NodeFile,
    runner: BlockRunner,
    devices: dict[str, Any],
    folder: RunFolder,
    *,
    now: Callable[[], float],
    alarmed: Callable[[list[Alarm]], None],
    progress: Progress,
    once: bool,
) -> Service:
    recorder = Recorder(file, folder.path)
    receiver = file.receiver
    if file.parameters.protocol == "bbm92" and receiver is not None:
        return PairEnd(
            file.node.role,
            runner,
            devices[receiver.tagger],
            detector_of_channel=receiver.detectors(),
            parameters=file.parameters,
            block_s=file.blocks.block_s,
            recorder=recorder,
            now=now,
            progress=progress,
        )
    if file.sender is not None and file.node.role == "alice":
        transmitter = devices[file.sender.transmitter]
        try:
            check_transmitter(transmitter, file.parameters)
        except ConfigError as error:
            raise ConfigError(f"{file.path}: {error}") from error
        return Sender(runner, transmitter, file.parameters, recorder=recorder, now=now, progress=progress)
    if receiver is None:
        raise ConfigError(f"{file.path}: needs a [receiver]")
    ending, timing = threading.Event(), timing_of(file)
    calibrator = Calibrator(
        bench_of(receiver, devices),
        file.calibration,
        alarms=file.alarms,
        timing=timing,
        now=now,
        folder=folder.path / "calibration",
        kept=CalibrationFile(
            file.folder / file.node.folder / f"{file.node.name}.calibration.json", file.calibration.keep_s
        ),
        alarmed=alarmed,
        progress=partial(setattr, progress, "doing"),
        interrupted=ending.is_set,
    )
    if once:
        return CalibrateOnce(runner, devices[receiver.tagger], calibrator, ending)

    def reconnect() -> None:
        """All but the meters, which the node itself looks after."""
        watched = set(receiver.current_meters.values())
        for name, device in devices.items():
            if name not in watched:
                device.reconnect()

    plan = Plan(
        parameters=file.parameters,
        block_pulses=file.block_pulses,
        period_as=timing.pulse_period_as,
        calibrate=calibrator.run,
        confirm=calibrator.confirm,
        forget=calibrator.forget,
        tracking=calibrator.tracking,
        watch=calibrator.watch,
        alarmed=alarmed,
        delays_ps=receiver.delays(),
        reconnect=reconnect,
        ending=ending,
    )
    return Receiver(runner, devices[receiver.tagger], plan, recorder=recorder, now=now, progress=progress)


def timing_of(file: NodeFile) -> PulsedParams:
    """How a receiver's link is timed before any calibration. ConfigError if the file says it too little."""
    parameters, receiver = file.parameters, file.receiver
    if parameters.source is None or receiver is None or parameters.timing.method == "pairs":
        raise ConfigError(f"{file.path}: bb84 needs [source], [receiver] and timing.method sync or string")
    return PulsedParams(
        method=parameters.timing.method,
        pulse_period_as=parameters.source.pulse_period_as,
        detector_of_channel=receiver.detectors(),
        gate_ps=parameters.timing.gate_ps,
        dead_time_ns=parameters.timing.dead_time_ns,
        sync_channel=receiver.sync_channel(),
        sync_period_pulses=parameters.timing.sync_period_pulses,
        string=None if parameters.sync_string is None else parameters.sync_string.build(),
        double_clicks=parameters.timing.double_click,
    )
