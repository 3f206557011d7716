"""Single Quantum WebSQ (Atlas) controller of superconducting detectors: JSON labels over TCP, counts on a second port.

Never run on hardware.

The controller acknowledges nothing: it sends the new value of a label some time after a command, along with others that
nobody asked for. A value is taken for set once its label shows it, within 1 % or 0.1. Channels count from 0. Source:
``spec/devices/single_quantum_websq.md``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from qkdpp.core.devices import Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.detectors.json_stream import JsonSplitter, NotJsonError
from qkdpp_drivers.errors import IdentityError, InstrumentError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.instrument import Identity, Instrument, Setting
from qkdpp_drivers.transports import Transport, transport_of

BIAS = Setting(name="bias_ua", unit="uA", low=-90.9, high=90.9, tolerance=0.1)
TRIGGER = Setting(name="trigger_mv", unit="mV", low=-1000.0, high=1000.0, tolerance=0.1)
PERIOD = Setting(name="period_ms", unit="ms", low=10, high=60_000)
NEEDED = ("NumberOfDetectors", "InptMeasurementPeriod", "BiasCurrent", "TriggerLevel", "DetectorEnable", "BiasVoltage")
LABELS_S = 10.0
DUMP_S = 4.0
ECHO_S = 2.0
POLL_S = 0.1
LINES_TO_TRY = 6


class WebSq(Instrument):
    """The controller.

    Args:
        transport: control port (12000).
        counts: transport of the count lines (12345).
        bias_limit_ua: highest bias current allowed here.
        latched_mv: bias voltage above which a detector counts as latched.
    """

    kind: ClassVar[str] = "SinglePhotonDetector"
    vendor: ClassVar[str] = "Single Quantum"
    model: ClassVar[str] = "WebSQ"
    transports: ClassVar[tuple[str, ...]] = ("tcp",)
    bias_unit: ClassVar[str] = "uA"

    def __init__(
        self,
        transport: Transport,
        *,
        counts: Transport,
        bias_limit_ua: float,
        latched_mv: float = 100.0,
        name: str | None = None,
    ) -> None:
        super().__init__(transport, name=name)
        self.count_line = counts
        limit = min(bias_limit_ua, BIAS.high)
        self.bias_setting = Setting(name="bias_ua", unit="uA", low=-limit, high=limit, tolerance=0.1)
        self.latched_mv = latched_mv
        self._labels: dict[str, dict[str, Any]] = {}
        self._heard: set[str] = set()
        self._complaints: list[str] = []
        self._splitter = JsonSplitter()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """As for every instrument; ``counts_url`` is the place of the count lines.

        Raises:
            DeviceError: no ``counts_url``, or options without meaning.
        """
        where = options.pop("counts_url", None)
        if where is None:
            raise DeviceError(f"{url}: counts_url is missing; give the port of the count lines (12345)")
        counts, unknown = transport_of(where)
        if unknown:
            raise DeviceError(f"{where}: unknown option {', '.join(unknown)}")
        return super().from_url(url, counts=counts, **options)

    def identify(self) -> Identity:
        """Asks for all labels; it is a WebSQ if those that the driver needs are among them.

        Raises:
            IdentityError: labels come, but not these.
            TransportTimeout: no label within 10 s.
        """
        end_s = self.transport.now() + LABELS_S
        while self.transport.now() < end_s:
            self._request("labelProps")
            if self._wait(lambda: all(name in self._labels for name in NEEDED), DUMP_S):
                return Identity(vendor=self.vendor, model=self.model)
        if self._labels:
            raise IdentityError(
                f"{self.name}: labels {', '.join(sorted(self._labels)[:5])} are not those of a WebSQ; check the address"
            )
        raise TransportTimeout(f"{self.name}: no labels within {LABELS_S:g} s; check power and address")

    def connect(self) -> Identity:
        """Opens both connections and checks the labels."""
        try:
            return super().connect()
        except DeviceError:
            self.count_line.close()
            raise

    @property
    def channels(self) -> range:
        """The detectors."""
        return range(int(self._value("NumberOfDetectors")))

    def set_bias(self, channel: int, value: float) -> float:
        """Sets one bias current in microampere; returns what the controller shows."""
        self._known(channel)
        self.bias_setting.check(self.name, value)
        wanted = self._list("BiasCurrent")
        wanted[channel] = value
        return self._set_list("SetAllBiasCurrents", "BiasCurrent", wanted)[channel]

    def set_trigger_mv(self, channel: int, value_mv: float) -> float:
        """Sets one trigger level; returns what the controller shows."""
        self._known(channel)
        TRIGGER.check(self.name, value_mv)
        wanted = self._list("TriggerLevel")
        wanted[channel] = value_mv
        return self._set_list("SetAllTriggerLevels", "TriggerLevel", wanted)[channel]

    def enable(self, channel: int, on: bool) -> None:
        """Switches the bias of all detectors: the controller has one switch for them."""
        self._known(channel)
        self._set({"command": "DetectorEnable", "label": "DetectorEnable", "value": on}, lambda found: found is on)

    def set_period_ms(self, period_ms: int) -> int:
        """Sets the time that each line of counts covers."""
        PERIOD.check(self.name, period_ms)
        label = "InptMeasurementPeriod"
        message = {"command": "SetMeasurementPeriod", "label": label, "value": period_ms}
        return int(self._set(message, lambda found: found == period_ms))

    def counts(self, dwell_s: float) -> dict[int, int]:
        """Counts of one measurement period of ``dwell_s`` (whole milliseconds, at least 10) begun after the call.

        Lines under way are thrown away; a line counts once it stands one period after the line before it.

        Raises:
            ReplyError: a line is not a time and one number per detector.
            TransportTimeout: no such line.
        """
        period_ms = round(dwell_s * 1000)
        if self._value("InptMeasurementPeriod") != period_ms:
            self.set_period_ms(period_ms)
        self._listen(0.0)
        self.count_line.drain(quiet_s=0.0)
        wait_s = 2 * dwell_s + 2.0
        self.count_line.read_until(b"\n", wait_s)
        before_s = self._read_line(wait_s)[0]
        for _ in range(LINES_TO_TRY):
            time_s, *found = self._read_line(wait_s)
            if abs(time_s - before_s - dwell_s) <= 0.1 * dwell_s:
                return {channel: round(count) for channel, count in enumerate(found)}
            before_s = time_s
        raise TransportTimeout(f"{self.name}: lines of counts do not come every {dwell_s:g} s; check the connection")

    def latched(self) -> list[bool]:
        """Which detectors are latched: their bias voltage is high and they do not count."""
        return [abs(value_mv) > self.latched_mv for value_mv in self.bias_voltages_mv()]

    def bias_voltages_mv(self) -> list[float]:
        """Voltages across the detectors, freshly asked for; bright light shows here."""
        self._heard.discard("BiasVoltage")
        self._request("BiasVoltage")
        if not self._wait(lambda: "BiasVoltage" in self._heard, ECHO_S):
            raise TransportTimeout(f"{self.name}: BiasVoltage does not come within {ECHO_S:g} s")
        return self._list("BiasVoltage")

    def unlatch(self) -> None:
        """Bias of all detectors off and on again."""
        self.enable(0, False)
        self.enable(0, True)

    def auto_bias(self, dark_hz: Sequence[float], *, limit_s: float = 120.0) -> list[float]:
        """Lets the controller search bias currents for these dark rates, without light; the currents in microampere.

        Raises:
            SettingError: not one rate per detector.
            DeviceError: it does not begin, or has no end within ``limit_s``.
        """
        if len(dark_hz) != len(self.channels):
            raise SettingError(f"{self.name}: dark_hz: one rate for each of {len(self.channels)} detectors is needed")
        self._send({"command": "DarkCountsAutoIV", "value": list(dark_hz)})
        self._send({"command": "AutoCaliBiasCurrents", "value": True})
        if not self._wait(lambda: self._value("StartAutoIV") is True, ECHO_S):
            self._request("labelProps")
            if not self._wait(lambda: self._value("StartAutoIV") is True, DUMP_S):
                raise DeviceError(f"{self.name}: automatic bias does not begin; is another scan running?")
        if not self._wait(lambda: self._value("StartAutoIV") is False, limit_s):
            raise DeviceError(f"{self.name}: automatic bias has no end within {limit_s:g} s; are the detectors cold?")
        return self._list("BiasCurrentAutoIV")

    def errors(self) -> list[str]:
        """Error labels that came and were not raised yet."""
        self._listen(0.0, complain=False)
        found, self._complaints = self._complaints, []
        return found

    def snapshot(self) -> dict[str, Value]:
        """All settings as the controller shows them after a fresh dump."""
        self._heard.discard("TriggerLevel")
        self._request("labelProps")
        if not self._wait(lambda: "TriggerLevel" in self._heard, DUMP_S):
            raise TransportTimeout(f"{self.name}: no labels within {DUMP_S:g} s")
        found: dict[str, Value] = {
            "period_ms": int(self._value("InptMeasurementPeriod")),
            "enabled": bool(self._value("DetectorEnable")),
        }
        names = {"bias_{}_ua": "BiasCurrent", "trigger_{}_mv": "TriggerLevel", "voltage_{}_mv": "BiasVoltage"}
        for key, label in names.items():
            found |= {key.format(channel): value for channel, value in enumerate(self._list(label))}
        return found

    def close(self) -> None:
        """Closes both connections."""
        self.count_line.close()
        super().close()

    def _quieten(self) -> None:
        """Both ends open; nothing is known of the labels."""
        self._labels.clear()
        self._heard.clear()
        self._complaints.clear()
        self._splitter = JsonSplitter()
        super()._quieten()
        self.count_line.close()
        self.count_line.open()

    def _known(self, channel: int) -> None:
        if channel not in self.channels:
            raise SettingError(f"{self.name}: channel = {channel}: channels are 0 to {len(self.channels) - 1}")

    def _value(self, label: str) -> Any:
        properties = self._labels.get(label)
        if properties is None or "value" not in properties:
            raise DeviceError(f"{self.name}: label {label} was never sent; connect first, or is the firmware another?")
        return properties["value"]

    def _list(self, label: str) -> list[float]:
        value = self._value(label)
        if not isinstance(value, list) or len(value) != len(self.channels):
            raise ReplyError(self.name, label, json.dumps(value).encode())
        return [float(x) for x in value]

    def _set_list(self, command: str, label: str, wanted: list[float]) -> list[float]:
        def near(found: Any) -> bool:
            same_length = isinstance(found, list) and len(found) == len(wanted)
            return same_length and all(
                abs(f - w) <= max(0.01 * abs(w), 0.1) for f, w in zip(found, wanted, strict=True)
            )

        return [float(x) for x in self._set({"command": command, "label": label, "value": wanted}, near)]

    def _set(self, message: dict[str, Any], agrees: Callable[[Any], bool]) -> Any:
        """Sends a command and waits until the label, heard afresh, agrees; asks for all labels once if it does not.

        Raises:
            SettingError: the label stays at something else.
            InstrumentError: an error label came instead.
        """
        label = message["label"]
        with self.transport.lock:
            self._listen(0.0)
            self._heard.discard(label)

            def taken() -> bool:
                return label in self._heard and agrees(self._value(label))

            self._send(message)
            if self._wait(taken, ECHO_S):
                return self._value(label)
            self._heard.discard(label)
            self._request("labelProps")
            if self._wait(taken, DUMP_S):
                return self._value(label)
            if label not in self._heard:
                raise TransportTimeout(f"{self.name}: {label} does not come back; check power and cable")
            raise SettingError(
                f"{self.name}: {label} was set to {message['value']} but stays at {self._value(label)}; "
                "is the value allowed, or is a scan running?"
            )

    def _request(self, what: str) -> None:
        self._send({"request": what, "value": "None"} if what == "labelProps" else {"request": what})

    def _send(self, message: dict[str, Any]) -> None:
        self.transport.write(json.dumps(message, separators=(",", ":")).encode())

    def _wait(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Listens until ``done`` or the limit."""
        with self.transport.lock:
            end_s = self.transport.now() + limit_s
            while not done():
                left_s = end_s - self.transport.now()
                if left_s <= 0:
                    return False
                self._listen(min(left_s, POLL_S))
            return True

    def _listen(self, timeout_s: float, *, complain: bool = True) -> None:
        """Takes what has come into the labels.

        Raises:
            InstrumentError: an error label was among it.
            ReplyError: something that is no JSON object.
        """
        self._splitter.feed(self.transport.read_available(timeout_s))
        try:
            while (message := self._splitter.take()) is not None:
                self._take(message)
        except NotJsonError as error:
            raise ReplyError(self.name, "label", error.raw) from error
        if complain and self._complaints:
            raise InstrumentError(self.name, 0, self._complaints.pop(0))

    def _take(self, message: dict[str, Any]) -> None:
        label, value = message.get("label"), message.get("value")
        if not isinstance(label, str):
            return
        if "Error" in label:
            self._complaints.append(f"{label}: {value}")
        elif isinstance(value, dict):
            self._labels[label] = value
            self._heard.add(label)
        elif label in self._labels:
            self._labels[label]["value"] = value
            self._heard.add(label)

    def _read_line(self, timeout_s: float) -> list[float]:
        raw = self.count_line.read_until(b"\n", timeout_s)
        try:
            fields = [float(field) for field in raw.decode("ascii").split(",")]
        except ValueError as error:
            raise ReplyError(self.name, "counts", raw) from error
        if len(fields) != 1 + len(self.channels):
            raise ReplyError(self.name, "counts", raw)
        return fields
