"""``alice.toml`` and ``bob.toml``: what one live node is, and the public parameters of its link.

Format page: ``docs/formats/node.md``. Public sections (``source``, ``sync_string``, ``timing``, ``detectors``,
``security``, ``correction``, ``blocks``) must be the same on both sides and are compared field by field when the
link comes up. Everything else is the node's own.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from qkdpp.core.errors import ConfigError
from qkdpp.core.toml_kind import NODE, meant
from qkdpp.node.calibrate.delay_scan import DelayScanSettings
from qkdpp.node.calibrate.polarisation import PolarisationSettings
from qkdpp.node.calibrate.synchronisation import SynchronisationSettings
from qkdpp.node.monitors import AlarmSettings
from qkdpp.node.tracking import TrackingSettings
from qkdpp.protocols.parameters import (
    Correction,
    Detectors,
    Parameters,
    SecuritySection,
    Source,
    SyncStringSection,
    Timing,
)

FORMAT = 1
ROLES = {"Z0": 0, "Z1": 1, "X0": 2, "X1": 3}
Value = str | int | float | bool
Step = Literal["delay", "polarisation", "synchronisation"]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: frozen, by name, no unknown keys."""


class NodeSection(_Section, frozen=True, kw_only=True):
    """Who this node is; ``folder`` takes its runs and its state."""

    role: Literal["alice", "bob"]
    name: str
    folder: str = "."


class LinkSection(_Section, frozen=True, kw_only=True):
    """The classical channel: one of ``listen`` and ``connect`` (``host:port``), and PEM files for TLS."""

    listen: str | None = None
    connect: str | None = None
    authority: str | None = None
    certificate: str | None = None
    key: str | None = None
    peer_name: str | None = None

    def address(self) -> tuple[str, int, bool]:
        """Host, port, and whether to listen; ConfigError unless one address is named."""
        given = [value for value in (self.listen, self.connect) if value is not None]
        if len(given) != 1:
            raise ConfigError("link: name either listen or connect, as host:port")
        return *_host_port("link", given[0]), self.listen is not None

    def tls(self) -> tuple[str, str, str, str] | None:
        """Authority, certificate, key and the peer's name, or None where no file is named."""
        given = (self.authority, self.certificate, self.key, self.peer_name)
        if given == (None, None, None, None):
            return None
        if None in given:
            raise ConfigError("link: TLS needs authority, certificate, key and peer_name (`qkdpp pki init` makes them)")
        return tuple(value or "" for value in given)  # type: ignore[return-value]


class PoolSection(_Section, frozen=True, kw_only=True):
    """The authentication pool; keys refill it ``refill_to`` when fewer than ``refill_below`` tags are left."""

    file: str
    refill_below: int = 0
    refill_to: int = 0


class DeviceSection(_Section, frozen=True, kw_only=True):
    """One instrument: driver, URL (real or ``sim://``), and what the driver's constructor takes beside."""

    driver: str
    url: str
    options: dict[str, Value] = {}


class ReceiverSection(_Section, frozen=True, kw_only=True):
    """Which instruments receive, by their names under ``devices``.

    ``gate_delays`` maps detectors (Z0, Z1, X0, X1) to ``device:channel``; ``polarisation`` names the controllers of
    the rectilinear and the diagonal basis; ``current_meters`` maps detectors to devices.
    """

    tagger: str
    channels: dict[str, Literal["Z0", "Z1", "X0", "X1", "sync", "ignore"]]
    delays_ps: dict[str, float] = {}
    gate_delays: dict[str, str] = {}
    polarisation: list[str] = []
    current_meters: dict[str, str] = {}

    def detectors(self) -> dict[int, int]:
        """Detector code by instrument channel."""
        return {_channel(key): ROLES[role] for key, role in self.channels.items() if role in ROLES}

    def delays(self) -> dict[int, float]:
        """Known delay in ps by instrument channel."""
        return {_channel(key): delay_ps for key, delay_ps in self.delays_ps.items()}

    def sync_channel(self) -> int | None:
        """Instrument channel of the sync pulses."""
        return next((_channel(key) for key, role in self.channels.items() if role == "sync"), None)


class SenderSection(_Section, frozen=True, kw_only=True):
    """Which instrument sends, by its name under ``devices``."""

    transmitter: str


class BlocksSection(_Section, frozen=True, kw_only=True):
    """Length of a block, blocks in flight, and time from the opening of a block to its end."""

    block_s: float = 10.0
    in_flight: int = 3
    deadline_s: float = 60.0


class CalibrationSection(_Section, frozen=True, kw_only=True):
    """What is calibrated at the start, in this order, and again when something asks for it.

    ``recalibrate_qber``, ``recalibrate_blocks``: see :class:`qkdpp.node.triggers.Triggers`. ``keep_s``: a start within
    so many seconds of the last block with a key goes on with the last calibration.
    """

    steps: tuple[Step, ...] = ("delay", "polarisation", "synchronisation")
    delay: DelayScanSettings = DelayScanSettings()
    polarisation: PolarisationSettings = PolarisationSettings()
    synchronisation: SynchronisationSettings = SynchronisationSettings()
    tracking: TrackingSettings = TrackingSettings()
    recalibrate_qber: float = 0.05
    recalibrate_blocks: int = 5
    keep_s: float = 300.0


class RecordingSection(_Section, frozen=True, kw_only=True):
    """Whether raw tags are recorded (they hold the receiver's bits), and, sealed, randomness and states, for replay.

    ``transcripts``: whether the frames of every block are kept; public, but large.
    ``key``: file of the sealing key, made where it is missing; without one ``NAME.sealing.key`` beside the node file.
    """

    tags: bool = False
    entropy: bool = False
    key: str | None = None
    transcripts: bool = True


class StoreSection(_Section, frozen=True, kw_only=True):
    """Folder of the key store, its key-encrypting key (file or ``pkcs11:`` URI), and name of the other node."""

    folder: str
    key: str
    peer: str


class DeliverySection(_Section, frozen=True, kw_only=True):
    """Delivery file (``docs/formats/delivery.md``) by which applications get keys of the store while the node runs."""

    file: str


class MetricsSection(_Section, frozen=True, kw_only=True):
    """Where Prometheus may ask, as ``host:port`` (``:port`` is this computer alone), and PEM files for TLS."""

    listen: str | None = None
    certificate: str | None = None
    key: str | None = None

    def address(self) -> tuple[str, int] | None:
        """Host and port, or None where nothing is served."""
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("metrics: TLS needs both certificate and key")
        return None if self.listen is None else _host_port("metrics.listen", self.listen)


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int
    protocol: Literal["bb84", "bbm92"]
    node: NodeSection
    link: LinkSection
    pool: PoolSection
    devices: dict[str, DeviceSection] = {}
    receiver: ReceiverSection | None = None
    sender: SenderSection | None = None
    blocks: BlocksSection = BlocksSection()
    calibration: CalibrationSection = CalibrationSection()
    alarms: AlarmSettings = AlarmSettings()
    recording: RecordingSection = RecordingSection()
    store: StoreSection | None = None
    delivery: DeliverySection | None = None
    metrics: MetricsSection = MetricsSection()
    source: Source | None = None
    sync_string: SyncStringSection | None = None
    timing: Timing | None = None
    detectors: Detectors = Detectors()
    security: SecuritySection = SecuritySection()
    correction: Correction = Correction()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFile:
    """A checked node file; ``folder`` is where its relative paths start."""

    path: Path
    folder: Path
    text: str
    parameters: Parameters
    node: NodeSection
    link: LinkSection
    pool: PoolSection
    devices: dict[str, DeviceSection]
    receiver: ReceiverSection | None
    sender: SenderSection | None
    blocks: BlocksSection
    calibration: CalibrationSection
    alarms: AlarmSettings
    recording: RecordingSection
    store: StoreSection | None
    delivery: DeliverySection | None
    metrics: MetricsSection

    @property
    def block_pulses(self) -> int:
        """Pulses of a block: whole frames of the synchronisation string, nearest to ``blocks.block_s``."""
        source = self.parameters.source
        if source is None:
            raise ConfigError(f"{self.path}: blocks of pulses need a [source]")
        string = self.parameters.sync_string
        unit = string.frame if string is not None else max(self.parameters.timing.sync_period_pulses, 1)
        pulses = self.blocks.block_s * 1e18 / source.pulse_period_as
        return max(1, round(pulses / unit)) * unit


def check_calibrates(file: NodeFile) -> None:
    """ConfigError unless the loops of calibration run at this node."""
    if file.parameters.protocol == "bbm92" or file.node.role == "alice":
        raise ConfigError(
            f"{file.path}: the loops run at the receiver of a bb84 link; let `qkdpp run` run here, and type "
            "`qkdpp calibrate` with the file of the receiver"
        )


def with_steps(file: NodeFile, steps: tuple[Step, ...]) -> NodeFile:
    """The same node with these loops of calibration; with none its instruments are left as they are."""
    return replace(file, calibration=msgspec.structs.replace(file.calibration, steps=steps))


def _host_port(field: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) < 65536:
        raise ConfigError(f"{field}: {text!r} is not host:port")
    return host.strip("[]") or "127.0.0.1", int(port)


def _channel(key: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise ConfigError(f"receiver: {key!r} is not a channel number") from None


def load_node(path: Path) -> NodeFile:
    """Reads a node file; ConfigError names file, field and remedy."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
        document = msgspec.convert(table, _Document)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `qkdpp init --live FOLDER` writes a pair of them") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {str(error).replace('`', '').replace('$.', '')}{meant(table, NODE)}") from error
    if document.format != FORMAT:
        raise ConfigError(f"{path}: format = {document.format}, this version reads format = {FORMAT}")
    parameters = Parameters(
        protocol=document.protocol,
        source=document.source,
        sync_string=document.sync_string,
        timing=document.timing or Timing(method="pairs" if document.protocol == "bbm92" else "sync"),
        detectors=document.detectors,
        security=document.security,
        correction=document.correction,
    )
    own = {name: getattr(document, name) for name in _OWN}
    result = NodeFile(path=path, folder=path.parent, text=text, parameters=parameters, **own)
    try:
        _check(result)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return result


_OWN = (
    "node",
    "link",
    "pool",
    "devices",
    "receiver",
    "sender",
    "blocks",
    "calibration",
    "alarms",
    "recording",
    "store",
    "delivery",
    "metrics",
)


def _check(file: NodeFile) -> None:
    file.parameters.check()
    file.link.address()
    file.link.tls()
    file.metrics.address()
    if file.parameters.protocol == "bb84" and file.node.role == "alice":
        if file.sender is None:
            raise ConfigError("alice of bb84 needs a [sender]")
        _named(file, "sender.transmitter", file.sender.transmitter)
    else:
        _check_receiver(file)
    if file.recording.entropy and not file.recording.transcripts:
        raise ConfigError("recording.entropy needs recording.transcripts = true: the peer's messages are replayed")
    if file.blocks.block_s <= 0 or file.blocks.in_flight < 1 or file.blocks.deadline_s <= 0:
        raise ConfigError("blocks: block_s and deadline_s must be positive, in_flight at least 1")


def _check_receiver(file: NodeFile) -> None:
    receiver = file.receiver
    if receiver is None:
        raise ConfigError(f"{file.node.role} of {file.parameters.protocol} needs a [receiver]")
    missing = set(ROLES) - set(receiver.channels.values())
    if missing:
        raise ConfigError(f"receiver.channels: no channel for {', '.join(sorted(missing))}")
    if file.parameters.timing.method == "sync" and receiver.sync_channel() is None:
        raise ConfigError('receiver.channels: timing.method = "sync" needs a channel with the role "sync"')
    receiver.delays()
    _named(file, "receiver.tagger", receiver.tagger)
    for place in (*receiver.polarisation, *receiver.current_meters.values()):
        _named(file, "receiver", place)
    for place in receiver.gate_delays.values():
        _named(file, "receiver.gate_delays", place.partition(":")[0])
    if file.recording.entropy and not file.recording.tags:
        raise ConfigError(
            "recording.entropy of a receiver needs recording.tags = true: there is nothing to replay else"
        )
    if receiver.polarisation and len(receiver.polarisation) != 2:
        raise ConfigError("receiver.polarisation names two controllers: rectilinear, diagonal")


def _named(file: NodeFile, field: str, name: str) -> None:
    if name not in file.devices:
        known = ", ".join(file.devices) or "none"
        raise ConfigError(f"{field}: no [devices.{name}]; there are {known}")
